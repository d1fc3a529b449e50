//! Defines how outgoing requests find addresses: with an asynchronous resolver, since getaddrinfo(3)
//! needs a thread, and past a check of what the name resolved to.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use hickory_resolver::TokioResolver;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Why a name gave no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The name server said so, or did not answer.
    #[error("cannot resolve the name: {0}")]
    Lookup(String),
    /// Every address is one that the app's pattern does not vouch for.
    #[error("the name resolves to an address that is not public")]
    Prohibited,
}

/// Resolves names for one kind of client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    /// Whether addresses that are not public are left out.
    pub(super) public_only: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let public_only = self.public_only;
        Box::pin(async move {
            let found = addresses(name.as_str()).await?;
            let any = !found.is_empty();
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| !public_only || is_public(*address))
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            match (allowed.is_empty(), any) {
                (false, _) => Ok(allowed.into_iter()),
                (true, true) => Err(ResolveError::Prohibited),
                (true, false) => Err(ResolveError::Lookup("no address".to_owned())),
            }
        })
    }
}

async fn addresses(name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let found = system()?
        .lookup_ip(name)
        .await
        .map_err(|error| ResolveError::Lookup(error.to_string()))?;
    Ok(found.iter().collect())
}

/// The resolver that the system's settings (resolv.conf, hosts) describe, read when first needed.
fn system() -> Result<&'static TokioResolver, ResolveError> {
    static SYSTEM: OnceLock<Result<TokioResolver, String>> = OnceLock::new();
    SYSTEM
        .get_or_init(|| {
            TokioResolver::builder_tokio()
                .and_then(|builder| builder.build())
                .map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|error| ResolveError::Lookup(error.clone()))
}

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || first == 0
        || first >= 240
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 192 && second == 88 && third == 99)
        || (first == 198 && (18..20).contains(&second));
    !special
}

/// Only 2000::/3 is global unicast; within it, what embeds an IPv4 address is as public as that.
fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let segments = address.segments();
    if segments[0] == 0x2002 {
        let [a, b] = segments[1].to_be_bytes();
        let [c, d] = segments[2].to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let special = (segments[0] == 0x2001 && (segments[1] < 0x0200 || segments[1] == 0x0db8))
        || segments[0] == 0x3fff;
    segments[0] & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for (address, expect) in [
            ("8.8.8.8", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.31.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("198.18.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fc00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("64:ff9b::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("2002:7f00:1::", false),
            ("2002:808:808::", true),
        ] {
            let parsed = address.parse().expect("an address");
            assert_eq!(is_public(parsed), expect, "{address}");
        }
    }
}
