//! Defines the tests of the sockets: each binds a free port or a path of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use nix::libc;

use super::super::fork_lock;
use super::super::poll::{self, Watched};
use super::super::process;
use super::*;

fn tcp(text: &str) -> Listener {
    Listener::bind(&BindTo::Tcp(text.parse().unwrap()), 16).unwrap()
}

fn tcp_address(listener: &Listener) -> SocketAddr {
    match listener.local_address() {
        Address::Tcp(address) => *address,
        other @ Address::Unix(_) => panic!("{other}"),
    }
}

fn wait_readable(fd: BorrowedFd<'_>) {
    let limit = Some(Duration::from_secs(20));
    assert_eq!(poll::wait(&mut [Watched::readable(fd)], limit).unwrap(), 1);
}

fn accepted(listener: &Listener) -> Stream {
    wait_readable(listener.as_fd());
    listener.accept().unwrap().unwrap()
}

/// Opens a listening socket the way a parent hands it down: not closed by exec.
fn handed_down(listener: impl Into<OwnedFd>) -> RawFd {
    let fd: OwnedFd = listener.into();
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    fd.into_raw_fd()
}

#[test]
fn addresses_read_like_urls() {
    let check = |address: Address, expect: &str| assert_eq!(address.to_string(), expect);
    check(
        Address::Tcp("127.0.0.1:8000".parse().unwrap()),
        "http://127.0.0.1:8000/",
    );
    check(
        Address::Tcp("[::1]:8000".parse().unwrap()),
        "http://[::1]:8000/",
    );
    check(Address::Unix("/run/app.sock".into()), "unix:/run/app.sock");
    check(Address::Unix("/run/a\nb".into()), "unix:/run/a\\nb");
}

#[test]
fn tcp_is_accepted_with_its_options_and_its_peer() {
    let listener = tcp("127.0.0.1:0");
    assert!(listener.accept().unwrap().is_none());
    let client = TcpStream::connect(tcp_address(&listener)).unwrap();
    let stream = accepted(&listener);
    let peer = stream.peer().unwrap();
    assert_eq!(peer, Some(client.local_addr().unwrap()));
    assert!(nix_socket::getsockopt(&stream, TcpNoDelay).unwrap());
    let status = OFlag::from_bits_retain(fcntl(&stream, FcntlArg::F_GETFL).unwrap());
    assert!(status.contains(OFlag::O_NONBLOCK));
    for fd in [stream.as_fd(), listener.as_fd()] {
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
}

#[test]
fn ipv6_leaves_ipv4_to_others() {
    let six = tcp("[::]:0");
    let port = tcp_address(&six).port();
    let four = tcp(&format!("0.0.0.0:{port}"));
    TcpStream::connect(("::1", port)).unwrap();
    let peer = accepted(&six).peer().unwrap();
    assert!(matches!(peer, Some(SocketAddr::V6(_))));
    assert!(four.accept().unwrap().is_none());
}

/// What it has sent is there, and must not pass for a request from a Unix socket, which has no
/// address either.
#[test]
fn a_peer_that_is_gone_has_no_address_that_could_be_taken_for_none() {
    let listener = tcp("127.0.0.1:0");
    let mut client = TcpStream::connect(tcp_address(&listener)).unwrap();
    client.write_all(b"hello").unwrap();
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&client, nix_socket::sockopt::Linger, &at_once).unwrap();
    drop(client);
    let stream = accepted(&listener);
    let error = stream.peer().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 5);
}

#[test]
fn a_port_in_use_is_said_to_be() {
    let first = tcp("127.0.0.1:0");
    let error = Listener::bind(&BindTo::Tcp(tcp_address(&first)), 16).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().ends_with("address in use"));
    // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
    let error = Listener::bind(&BindTo::Tcp("192.0.2.1:1".parse().unwrap()), 16).unwrap_err();
    assert!(matches!(error, BindError::Bind { .. }), "{error}");
}

#[test]
fn a_port_can_be_shared_with_those_who_come_later() {
    let any = ([127, 0, 0, 1], 0).into();
    let first = Listener::bind(&BindTo::TcpBeforeOthers(any), 64).unwrap();
    let address = tcp_address(&first);
    let shared = Listener::bind(&BindTo::TcpAmongOthers(address), 64).unwrap();
    assert_eq!(tcp_address(&shared), address);
    for to in [BindTo::TcpBeforeOthers(address), BindTo::Tcp(address)] {
        let error = Listener::bind(&to, 16).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    }
    // Both have a queue, and each gets some of the connections.
    let _clients: Vec<_> = (0..64)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    let waiting = [&first, &shared].map(|listener| listener.waiting().unwrap());
    assert!(waiting[0] > 0 && waiting[1] > 0, "{waiting:?}");
}

#[test]
fn a_port_is_free_again_while_old_connections_linger() {
    let _closing = fork_lock::closing();
    let listener = tcp("127.0.0.1:0");
    let address = tcp_address(&listener);
    let mut client = TcpStream::connect(address).unwrap();
    // The side that closes first keeps the address for a minute.
    drop(accepted(&listener));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop((client, listener));
    Listener::bind(&BindTo::Tcp(address), 16).unwrap();
}

#[test]
fn unix_sockets_are_bound_served_and_unlinked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = Listener::bind(&BindTo::Unix(path.clone()), 16).unwrap();
    assert_eq!(listener.local_address(), &Address::Unix(path.clone()));
    let mut client = UnixStream::connect(&path).unwrap();
    let stream = accepted(&listener);
    assert_eq!(stream.peer().unwrap(), None);
    client.write_all(b"hello").unwrap();
    wait_readable(stream.as_fd());
    let mut buffer = [0; 8];
    assert_eq!(stream.read(&mut buffer).unwrap(), 5);
    listener.unlink().unwrap();
    assert!(!path.exists());
    listener.unlink().unwrap();
}

#[test]
fn only_a_socket_that_nobody_serves_is_replaced() {
    let _closing = fork_lock::closing();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let bind = || Listener::bind(&BindTo::Unix(path.clone()), 16);
    let live = bind().unwrap();
    assert!(matches!(bind().unwrap_err(), BindError::InUse { .. }));
    // Closed and not unlinked, as by a server that was killed.
    drop(live);
    let second = bind().unwrap();
    drop(UnixStream::connect(&path).unwrap());
    // The file of another server is not ours to unlink.
    fs::remove_file(&path).unwrap();
    let third = bind().unwrap();
    second.unlink().unwrap();
    assert!(path.exists());
    third.unlink().unwrap();
    File::create(&path).unwrap();
    assert!(matches!(bind().unwrap_err(), BindError::NotASocket { .. }));
    assert!(path.is_file());
    fs::remove_file(&path).unwrap();
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert!(matches!(bind().unwrap_err(), BindError::InUse { .. }));
}

#[test]
fn a_live_socket_with_a_full_queue_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let _live = Listener::bind(&BindTo::Unix(path.clone()), 0).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let error = Listener::bind(&BindTo::Unix(path), 16).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
}

#[test]
fn an_inherited_listener_is_adopted_once() {
    let parent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = parent.local_addr().unwrap();
    let descriptor = handed_down(parent);
    let listener = Listener::bind(&BindTo::Fd(descriptor), 16).unwrap();
    assert_eq!(tcp_address(&listener), address);
    let _client = TcpStream::connect(address).unwrap();
    let stream = accepted(&listener);
    assert!(nix_socket::getsockopt(&stream, TcpNoDelay).unwrap());
    let error = Listener::bind(&BindTo::Fd(descriptor), 16).unwrap_err();
    assert!(error.to_string().contains("already in use"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let descriptor = handed_down(UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&BindTo::Fd(descriptor), 16).unwrap();
    assert_eq!(listener.local_address(), &Address::Unix(path.clone()));
    listener.unlink().unwrap();
    assert!(path.exists(), "the file belongs to whoever made it");
}

#[test]
fn what_is_no_inherited_listener_is_refused_and_left_open() {
    let check = |descriptor: RawFd, expect: &str| {
        let error = Listener::bind(&BindTo::Fd(descriptor), 16).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot serve fd://{descriptor}: {expect}")
        );
    };
    check(2, "it is a standard stream");
    check(-1, "it is a standard stream");
    check(1_000_000, "it is not open");
    let refused = |fd: OwnedFd, expect: &str| {
        let descriptor = handed_down(fd);
        check(descriptor, expect);
        // SAFETY: it was refused, so it has no other owner.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    };
    refused(tempfile::tempfile().unwrap().into(), "it is not a socket");
    refused(
        UnixDatagram::unbound().unwrap().into(),
        "it is not a stream socket",
    );
    refused(UnixStream::pair().unwrap().0.into(), "it does not listen");
}

#[test]
fn an_error_that_lasts_is_not_an_empty_queue() {
    // A datagram socket is one: the kernel gives an error that a dead connection may have, for ever.
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_nonblocking(true).unwrap();
    let error = accept(&socket.into()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EOPNOTSUPP as i32));
}

#[test]
fn a_clone_is_the_same_socket() {
    let _closing = fork_lock::closing();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let first = Listener::bind(&BindTo::Unix(path.clone()), 16).unwrap();
    let second = first.try_clone().unwrap();
    assert_eq!(first.local_address(), second.local_address());
    let _client = UnixStream::connect(&path).unwrap();
    drop(first);
    accepted(&second);
    let flags = FdFlag::from_bits_retain(fcntl(&second, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    assert!(second.owns_file());
    second.unlink().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_connection_can_wait_for_its_first_bytes() {
    let listener = tcp("127.0.0.1:0");
    listener.defer(true).unwrap();
    let connect = || TcpStream::connect(tcp_address(&listener)).unwrap();
    let (mut first, mut second) = (connect(), connect());
    second.write_all(b"b").unwrap();
    let read = |stream: Stream| {
        let mut byte = [0];
        wait_readable(stream.as_fd());
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        byte[0]
    };
    // Not in the order of connecting.
    assert_eq!(read(accepted(&listener)), b'b');
    first.write_all(b"a").unwrap();
    assert_eq!(read(accepted(&listener)), b'a');
    // A silent one is kept back for a while only.
    let _third = connect();
    assert!(listener.accept().unwrap().is_none());
    accepted(&listener);
    listener.defer(false).unwrap();
    let _fourth = connect();
    accepted(&listener);
    Listener::bind(
        &BindTo::Unix(tempfile::tempdir().unwrap().path().join("a")),
        1,
    )
    .unwrap()
    .defer(true)
    .unwrap();
}

#[test]
fn the_backlog_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = Listener::bind(&BindTo::Unix(path.clone()), 0).unwrap();
    let connect = || {
        let client = new_socket(AddressFamily::Unix).unwrap();
        let to = nix_socket::UnixAddr::new(&path).unwrap();
        nix_socket::connect(client.as_raw_fd(), &to).map(|()| client)
    };
    let _first = connect().unwrap();
    assert_eq!(connect().unwrap_err(), Errno::EAGAIN);
    listener.set_backlog(16).unwrap();
    let _second = connect().unwrap();
    listener.set_backlog(0).unwrap();
    assert_eq!(connect().unwrap_err(), Errno::EAGAIN);
}

#[test]
fn a_successor_inherits_the_queue_and_the_file() {
    let _closing = fork_lock::closing();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let first = Listener::bind(&BindTo::Unix(path.clone()), 16).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let copy = || first.as_fd().try_clone_to_owned().unwrap();
    let (lent, owned) = (
        Listener::inherit(copy(), false, 16).unwrap(),
        Listener::inherit(copy(), true, 16).unwrap(),
    );
    drop(first);
    assert_eq!(owned.local_address(), &Address::Unix(path.clone()));
    accepted(&owned);
    assert!(!lent.owns_file() && owned.owns_file());
    lent.unlink().unwrap();
    assert!(path.exists());
    owned.unlink().unwrap();
    assert!(!path.exists());
    let late = Listener::inherit(lent.fd, true, 16).unwrap();
    assert!(!late.owns_file());

    let tcp = tcp("127.0.0.1:0");
    let address = tcp.local_address().clone();
    let inherited = Listener::inherit(tcp.fd, true, 16).unwrap();
    assert_eq!(inherited.local_address(), &address);
    assert!(!inherited.owns_file());

    let pair = UnixStream::pair().unwrap();
    let error = Listener::inherit(pair.0.into(), true, 16).unwrap_err();
    assert_eq!(error, "it does not listen");
}

#[test]
fn only_the_own_file_is_given_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = Listener::bind(&BindTo::Unix(path.clone()), 16).unwrap();
    let own = Identity::find(None, None).unwrap();
    listener.give_to(&own).unwrap();
    let other = Identity { uid: 4567, ..own };
    if process::effective_uid() == 0 {
        listener.give_to(&other).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 4567);
        fs::rename(&path, folder.path().join("kept")).unwrap();
        fs::write(&path, "another's").unwrap();
        listener.give_to(&other).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    } else {
        assert!(listener.give_to(&other).is_err());
    }
    tcp("127.0.0.1:0").give_to(&other).unwrap();
}

#[test]
fn the_queue_is_told() {
    let listener = Listener::bind(&BindTo::Tcp(([127, 0, 0, 1], 0).into()), 2).unwrap();
    let Address::Tcp(address) = *listener.local_address() else {
        panic!("{listener:?}")
    };
    let queue = |waiting, overflows| Queue {
        waiting,
        limit: 2,
        overflows: Some(overflows),
    };
    assert_eq!(listener.queue(), Some(queue(0, 0)));
    // The kernel lets one more in than it says.
    let clients: Vec<_> = (0..3)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(listener.queue(), Some(queue(3, 0)));
    let limit = std::time::Duration::from_millis(50);
    assert!(std::net::TcpStream::connect_timeout(&address, limit).is_err());
    let full = listener.queue().unwrap();
    assert!(full.waiting == 3 && full.overflows > Some(0), "{full:?}");
    assert!(listener.accept().unwrap().is_some());
    drop(clients);
    assert_eq!(listener.queue().unwrap().waiting, 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let unix = Listener::bind(&BindTo::Unix(path.clone()), 2).unwrap();
    let clients = [(); 2].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
    let queue = |waiting| Queue {
        waiting,
        limit: 2,
        overflows: None,
    };
    assert_eq!(unix.queue(), Some(queue(2)));
    assert!(unix.accept().unwrap().is_some());
    assert_eq!(unix.queue(), Some(queue(1)));
    drop(clients);
}
