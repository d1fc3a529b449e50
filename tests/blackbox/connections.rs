//! Tests of how the connections of a worker get along: nobody takes the turns or the place of
//! somebody else.

use std::io::Write;

use nix::sys::signal::Signal;

use crate::access_log::{ONE, lines, logged};
use crate::harness::Client;
use crate::process::signal_process;

// Turns.

#[test]
fn requests_that_come_together_are_one_turn_each() {
    const COUNT: usize = 1000;
    let server = logged("%(q)s", ONE).start();
    let worker = server.worker();
    let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/?name=0");
    }
    // Both have sent all before the worker sees any of it.
    signal_process(worker, Signal::SIGSTOP);
    let mut senders = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let request = format!("GET /?name={number} HTTP/1.1\r\nHost: a\r\n\r\n");
        senders.push(client.sender());
        senders[number]
            .write_all(request.repeat(COUNT).as_bytes())
            .unwrap();
    }
    signal_process(worker, Signal::SIGCONT);
    let readers = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            for _ in 0..COUNT {
                assert_eq!(client.response().status(), 200);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for reader in readers {
        reader.join().unwrap();
    }
    let lines = lines(&server, 2 * COUNT + 2);
    let turns = lines.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns > COUNT, "they took {turns} turns");
}
