//! Defines an app that opens a TCP connection of its own to 127.0.0.1, `?port=N`, past `wasi:http`.
//! It answers `connected`, or 403 and the name of the error code.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wasip2::sockets::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket;

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    match connect(guests::number(&request, "port", 80)) {
        Ok(()) => guests::answer(outparam, 200, "connected\n"),
        Err(code) => guests::answer(outparam, 403, format_args!("{}\n", code.name())),
    }
}

fn connect(port: u16) -> Result<(), ErrorCode> {
    let network = instance_network::instance_network();
    let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4)?;
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port,
        address: (127, 0, 0, 1),
    });
    socket.start_connect(&network, address)?;
    loop {
        socket.subscribe().block();
        match socket.finish_connect() {
            Ok(_) => return Ok(()),
            Err(ErrorCode::WouldBlock) => {}
            Err(code) => return Err(code),
        }
    }
}
