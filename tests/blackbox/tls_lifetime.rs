//! Tests of what outlives a worker, or does not: sessions that are resumed, certificates that are
//! renewed.

use std::fs;
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::ClientConfig;

use crate::harness::{Client, Server, Start, Tls, tls, tls_file, until};
use crate::process::signal_process;

/// What a client is shown, and whether it goes on with an earlier session; it asks, so that it gets its
/// tickets.
fn visit(server: &Server, config: &Arc<ClientConfig>) -> (&'static str, bool) {
    let mut client = server.connect_tls(config);
    assert_eq!(client.get("/").status(), 200);
    let agreed = client.agreed();
    (agreed.certificate, agreed.resumed)
}

/// Clients of either version that have a session with the server.
fn known(server: &Server) -> [Arc<ClientConfig>; 2] {
    [Tls::any().v12(), Tls::any().v13()].map(|client| {
        let config = client.config();
        assert_eq!(visit(server, &config), ("server", false));
        assert_eq!(visit(server, &config), ("server", true));
        config
    })
}

// Sessions.

#[test]
fn a_session_is_resumed_by_another_worker() {
    let server = Start::app("hello").certificates(&["server"]).start();
    let clients = known(&server);
    let old = server.worker();
    signal_process(old, Signal::SIGKILL);
    until("another worker is there", || {
        let workers = server.workers_now();
        !workers.is_empty() && !workers.contains(&old)
    });
    for config in clients {
        assert_eq!(visit(&server, &config), ("server", true));
    }
}

#[test]
fn a_session_is_resumed_after_a_reload() {
    let server = Start::app("hello").certificates(&["server"]).start();
    let clients = known(&server);
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    for config in clients {
        assert_eq!(visit(&server, &config), ("server", true));
    }
}

#[test]
fn a_session_is_resumed_after_an_upgrade() {
    let mut server = Start::app("hello").certificates(&["server"]).start();
    let clients = known(&server);
    let new = server.upgrade();
    server.upgraded(new);
    server.hand_over(new);
    for config in clients {
        assert_eq!(visit(&server, &config), ("server", true));
    }
}

#[test]
fn a_session_is_not_resumed_by_another_server() {
    let one = Start::app("hello").certificates(&["server"]).start();
    let clients = known(&one);
    let other = Start::app("hello").certificates(&["server"]).start();
    for config in clients {
        assert_eq!(visit(&other, &config), ("server", false));
    }
}

/// Settings with this demand of clients, and these authorities.
fn demanding(reqs: &str, authority: &str) -> String {
    format!(
        "certfile = ['{}']\nkeyfile = ['{}']\ncert-reqs = '{reqs}'\nca-certs = '{}'\n\
         [apps.hello]\ncomponent = '{{hello}}'\n",
        tls_file("server.pem"),
        tls_file("server.key"),
        tls_file(&format!("{authority}.pem")),
    )
}

#[test]
fn a_session_with_a_clients_certificate_is_resumed() {
    let server = Start::config(&demanding("required", "authority")).start();
    for client in [Tls::any().v12(), Tls::any().v13()] {
        let config = client.shows("client").config();
        assert_eq!(visit(&server, &config), ("server", false));
        assert_eq!(visit(&server, &config), ("server", true));
    }
}

/// Waits until so many workers have left, so that the new one alone accepts.
fn only_the_new_one_accepts(server: &Server, gone: usize) {
    server.wait_logs(&["role=worker", " left: exit status 0"], gone);
}

/// Whoever resumes a session is not asked for a certificate.
#[test]
fn a_session_is_worth_nothing_when_other_clients_are_asked_for() {
    let server = Start::config(&demanding("none", "authority")).start();
    let anonymous = known(&server);
    server.reconfigure(&demanding("required", "authority"));
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    let turned_away = |config: &Arc<ClientConfig>| {
        let client = Client::try_connect_tls(server.address(), config, "localhost");
        let answer = client.and_then(|mut client| {
            client.try_send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            client.try_response()
        });
        assert!(answer.is_err(), "{answer:?}");
    };
    only_the_new_one_accepts(&server, 1);
    anonymous.iter().for_each(turned_away);
    let named = [Tls::any().v12(), Tls::any().v13()].map(|client| client.shows("client").config());
    for config in &named {
        visit(&server, config);
        assert_eq!(visit(&server, config), ("server", true));
    }
    server.reconfigure(&demanding("required", "other"));
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 3 serves"]);
    only_the_new_one_accepts(&server, 2);
    named.iter().for_each(turned_away);
}

// Renewal.

/// Settings with a certificate in the server's own folder.
fn own(start: Start) -> Start {
    let folder = start.folder();
    put(&folder, "server", "server");
    start.args(["--certfile", "own.pem", "--keyfile", "own.key"])
}

/// Waits until clients are shown the new certificate: the old worker may accept one last time.
fn renewed(server: &Server) {
    until("the new certificate is shown", || {
        visit(server, &tls()).0 == "renewed"
    });
}

/// Lets the server's files be those of these names.
fn put(folder: &std::path::Path, certificate: &str, key: &str) {
    fs::copy(
        tls_file(&format!("{certificate}.pem")),
        folder.join("own.pem"),
    )
    .unwrap();
    fs::copy(tls_file(&format!("{key}.key")), folder.join("own.key")).unwrap();
}

#[test]
fn a_reload_reads_certificates_again() {
    let server = own(Start::app("echo")).start();
    let mut old = server.connect_tls(&tls());
    old.begin_echo();
    assert_eq!(old.agreed().certificate, "server");
    put(&server.folder(), "renewed", "renewed");
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    renewed(&server);
    old.finish_echo();
}

#[test]
fn a_reload_with_certificates_that_cannot_be_used_changes_nothing() {
    let mut server = own(Start::app("hello")).start();
    server.expect_errors();
    let folder = server.folder();
    let worker = server.worker();
    for (number, (certificate, key)) in [("renewed", "server"), ("server", "renewed")]
        .into_iter()
        .enumerate()
    {
        put(&folder, certificate, key);
        server.signal(Signal::SIGHUP);
        let parts = [
            "goes on: cannot use the key in",
            "own.key",
            "own.pem",
            "KeyMismatch",
        ];
        server.wait_logs(&parts, number + 1);
        assert_eq!(visit(&server, &tls()), ("server", false));
    }
    fs::write(folder.join("own.pem"), "nothing\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_log(&["goes on", "own.pem", "there is none in PEM form in it"]);
    fs::remove_file(folder.join("own.pem")).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_log(&["goes on", "own.pem", "No such file"]);
    assert_eq!(visit(&server, &tls()), ("server", false));
    assert_eq!(server.worker(), worker);
    put(&folder, "renewed", "renewed");
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 6 serves"]);
    renewed(&server);
}

#[test]
fn a_stop_finishes_what_is_in_flight() {
    let mut server = Start::app("echo").certificates(&["server"]).start();
    let mut client = server.connect_tls(&tls());
    let mut idle = server.connect_tls(&tls());
    idle.post("/", "x").is(200, "x");
    client.begin_echo();
    server.signal(Signal::SIGTERM);
    idle.closed_in_order().expect("the end is said");
    client.finish_echo();
    client.closed_in_order().expect("the end is said");
    server.stopped();
}
