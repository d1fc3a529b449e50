//! Defines lines as messages of syslog: datagrams, which nobody waits for.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// The severity of every line: informational (RFC 3164 section 4.1.1).
const SEVERITY: u8 = 6;

/// Where a daemon of syslog listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A Unix socket for datagrams.
    Unix(PathBuf),
    /// UDP.
    Udp(SocketAddr),
}

/// A way to a daemon of syslog. Each message is addressed anew, so that the daemon may be started
/// again, or come later.
#[derive(Debug)]
pub struct Syslog {
    socket: Socket,
    facility: u8,
    tag: String,
    message: Vec<u8>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram, PathBuf),
    Udp(UdpSocket, SocketAddr),
}

impl Syslog {
    /// Makes a socket. `facility` is the number of RFC 3164, and `tag` names the program.
    ///
    /// # Errors
    /// When the kernel has no socket for us.
    pub fn new(to: &SyslogAddress, facility: u8, tag: &str) -> io::Result<Self> {
        let socket = match to {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Socket::Unix(socket, path.clone())
            }
            SyslogAddress::Udp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                Socket::Udp(socket, *address)
            }
        };
        Ok(Self {
            socket,
            facility,
            tag: tag.to_owned(),
            message: Vec::new(),
        })
    }

    /// Sends a line, which has its end. Time and host are left to the receiver (RFC 3164
    /// section 4.3), as gunicorn does.
    pub(super) fn send(&mut self, line: &[u8], pid: u32) -> io::Result<()> {
        let priority = self.facility * 8 + SEVERITY;
        self.message.clear();
        write!(self.message, "<{priority}>{}[{pid}]: ", self.tag)?;
        self.message.extend_from_slice(line.trim_ascii_end());
        let sent = match &self.socket {
            Socket::Unix(socket, path) => socket.send_to(&self.message, path),
            Socket::Udp(socket, address) => socket.send_to(&self.message, address),
        };
        sent.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let address = SyslogAddress::Unix(path.clone());
        let mut syslog = Syslog::new(&address, 16, "shop").unwrap();
        assert!(syslog.send(b"lost\n", 7).is_err(), "nobody listens");
        let receiver = UnixDatagram::bind(&path).unwrap();
        syslog.send(b"GET / \"x\"\n", 7).unwrap();
        let mut text = [0; 100];
        let length = receiver.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"<134>shop[7]: GET / \"x\"");

        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SyslogAddress::Udp(receiver.local_addr().unwrap());
        let mut syslog = Syslog::new(&address, 1, "a").unwrap();
        syslog.send(b"{}\n", 8).unwrap();
        let length = receiver.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"<14>a[8]: {}");
    }

    #[test]
    fn a_daemon_that_does_not_read_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&SyslogAddress::Unix(path), 16, "shop").unwrap();
        let error = loop {
            if let Err(error) = syslog.send(b"line\n", 7) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
