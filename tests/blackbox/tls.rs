//! Tests of TLS as clients see it: who is shown which certificate, what is agreed on, who must show
//! one, and what ends a start.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;

use nix::unistd::{User, geteuid};
use rustls::ClientConfig;

use crate::harness::{Address, Client, Ended, Server, Start, Tls, guest, tls, tls_file};

/// Arguments for a demand of clients' certificates.
fn demand(how: &str) -> [String; 4] {
    ["--cert-reqs", how, "--ca-certs", &tls_file("authority.pem")].map(str::to_owned)
}

/// Asks for `/`; an error is the server's, who turns the client away.
fn ask(server: &Server, config: &Arc<ClientConfig>) -> std::io::Result<u16> {
    let mut client = Client::try_connect_tls(server.address(), config, "localhost")?;
    client.try_send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    client.try_response().map(|response| response.status())
}

// Which certificate.

#[test]
fn a_client_is_shown_the_certificate_for_the_name_that_it_asks_for() {
    let all = ["server", "wildcard", "both-ec", "both-rsa"];
    let server = Start::app("hello").certificates(&all).start();
    let shown = |config: &Arc<ClientConfig>, name: &str| {
        let mut client = Client::connect_tls(server.address(), config, name);
        client.get("/").is(200, "hello\n");
        client.agreed().certificate
    };
    for (name, expect) in [
        ("localhost", "server"),
        ("LOCALHOST", "server"),
        ("127.0.0.1", "server"),
        ("one.apps.test", "wildcard"),
        ("Two.Apps.Test", "wildcard"),
        ("both.test", "both-ec"),
    ] {
        assert_eq!(shown(&tls(), name), expect, "{name}");
    }
    assert_eq!(shown(&Tls::any().rsa().config(), "both.test"), "both-rsa");
}

#[test]
fn whoever_asks_for_a_name_that_is_not_there_is_shown_the_first() {
    let server = Start::app("hello")
        .certificates(&["wildcard", "server"])
        .start();
    // The client refuses it: the error says what it was shown.
    for name in ["elsewhere.test", "apps.test", "a.b.apps.test", "127.0.0.2"] {
        let error = Client::try_connect_tls(server.address(), &tls(), name).unwrap_err();
        assert!(error.to_string().contains("*.apps.test"), "{name}: {error}");
    }
}

#[test]
fn a_key_may_be_in_the_certificates_file() {
    let start = Start::app("hello");
    let both = ["server.pem", "server.key"].map(|name| fs::read_to_string(tls_file(name)).unwrap());
    let path = start.write("both.pem", &both.concat());
    let server = start.args(["--certfile", &path]).start();
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
}

// What is agreed on.

#[test]
fn versions() {
    let server = Start::app("hello").certificates(&["server"]).start();
    for (client, expect) in [
        (Tls::any(), "TLSv1_3"),
        (Tls::any().v13(), "TLSv1_3"),
        (Tls::any().v12(), "TLSv1_2"),
    ] {
        let mut client = server.connect_tls(&client.config());
        assert_eq!(client.agreed().version, expect);
        client.get("/").is(200, "hello\n");
    }
    let start = Start::app("hello").args(["--tls-min-version", "1.3"]);
    let server = start.certificates(&["server"]).start();
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
    let error = ask(&server, &Tls::any().v12().config()).unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[test]
fn protocols() {
    let agreed = |server: &Server, offers: &[&str]| {
        let config = Tls::any().alpn(offers).config();
        let client = Client::try_connect_tls(server.address(), &config, "localhost");
        client.map(|client| client.agreed().protocol)
    };
    let some = |name: &str| Some(name.to_owned());
    for (protocols, both, h1, h2) in [
        ("h2,h1", "h2", true, true),
        ("h1,h2", "http/1.1", true, true),
        ("h1", "http/1.1", true, false),
        ("h2", "h2", false, true),
    ] {
        let start = Start::app("hello").args(["--http-protocols", protocols]);
        let server = start.certificates(&["server"]).start();
        assert_eq!(
            agreed(&server, &["h2", "http/1.1"]).unwrap(),
            some(both),
            "{protocols}"
        );
        assert_eq!(
            agreed(&server, &["http/1.1", "h2"]).unwrap(),
            some(both),
            "{protocols}"
        );
        assert_eq!(agreed(&server, &["http/1.1"]).is_ok(), h1, "{protocols}");
        assert_eq!(agreed(&server, &["h2"]).is_ok(), h2, "{protocols}");
        assert!(agreed(&server, &["http/0.9"]).is_err(), "{protocols}");
        // Without an offer it is HTTP/1.1.
        let response = server.connect_tls(&tls()).get("/");
        match h1 {
            true => response.is(200, "hello\n"),
            false => response.is(400, "400 Bad Request: this port speaks HTTP/2 alone\n"),
        }
    }
}

// Clients' certificates.

#[test]
fn clients_show_a_certificate_or_not() {
    let shows = |name: Option<&'static str>, client: Tls| match name {
        Some(name) => client.shows(name).config(),
        None => client.config(),
    };
    for (how, nothing, good, unknown) in [
        ("none", true, true, true),
        ("optional", true, true, false),
        ("required", false, true, false),
    ] {
        let start = Start::app("hello")
            .certificates(&["server"])
            .args(demand(how));
        let server = start.start();
        for (name, may) in [
            (None, nothing),
            (Some("client"), good),
            (Some("stranger"), unknown),
        ] {
            for client in [Tls::any().v12(), Tls::any().v13()] {
                let answer = ask(&server, &shows(name, client));
                assert_eq!(answer.is_ok(), may, "{how}, {name:?}: {answer:?}");
            }
        }
    }
}

// Bad starts.

#[track_caller]
fn is_refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let line = ended.line();
    assert!(
        parts.iter().all(|part| line.contains(part)),
        "{parts:?}: {line}"
    );
}

#[test]
fn certificates_that_cannot_be_used_end_the_start_and_the_check_alike() {
    let good = (tls_file("server.pem"), tls_file("server.key"));
    let (other, encrypted) = (tls_file("renewed.key"), tls_file("encrypted.key"));
    let weak = tls_file("weak.key");
    let template = Start::new("serve");
    let text = template.write("text.pem", "this is no certificate\n");
    let broken = fs::read_to_string(&good.0).unwrap().replace("MII", "AAA");
    let broken = template.write("broken.pem", &broken);
    let cases: [(Vec<&str>, Vec<&str>); 9] = [
        (
            vec!["--certfile", "gone.pem", "--keyfile", &good.1],
            vec!["gone.pem", "No such file"],
        ),
        (
            vec!["--certfile", &text, "--keyfile", &good.1],
            vec![&text, "PEM"],
        ),
        (
            vec!["--certfile", &broken, "--keyfile", &good.1],
            vec![&broken],
        ),
        (
            vec!["--certfile", &good.0, "--keyfile", &text],
            vec![&text, "PEM"],
        ),
        (vec!["--certfile", &good.0], vec![&good.0, "PEM"]),
        (
            vec!["--certfile", &good.0, "--keyfile", &other],
            vec![&good.0, &other],
        ),
        (
            vec!["--certfile", &good.0, "--keyfile", &encrypted],
            vec![&encrypted, "is encrypted", "openssl pkey"],
        ),
        (
            vec!["--certfile", &good.0, "--keyfile", &weak],
            vec![&weak, "RSA of 2048 to 4096 bits"],
        ),
        (
            vec![
                "--certfile",
                &good.0,
                "--keyfile",
                &good.1,
                "--cert-reqs",
                "required",
                "--ca-certs",
                &text,
            ],
            vec![&text, "PEM"],
        ),
    ];
    for (args, parts) in cases {
        is_refused(&Start::app("hello").args(args.clone()).run(), 5, &parts);
        is_refused(
            &Start::app("hello")
                .args(args.clone())
                .args(["--check-config"])
                .run(),
            5,
            &parts,
        );
        is_refused(
            &Start::new("check").args([guest("hello")]).args(args).run(),
            5,
            &parts,
        );
    }
}

#[test]
fn what_is_good_is_good_in_a_check_too_and_settings_that_do_not_fit_are_found_first() {
    let other = tls_file("renewed.key");
    let start = || {
        Start::new("check")
            .args([guest("hello")])
            .certificates(&["server"])
    };
    let ended = start().args(demand("required")).run();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "ok: hello\n"),
        "{ended:?}"
    );
    is_refused(&start().args(["--keyfile", &other]).run(), 2, &["keyfile"]);
    is_refused(
        &start().args(["--cert-reqs", "required"]).run(),
        2,
        &["ca-certs"],
    );
}

#[test]
fn the_settings_are_printed() {
    let start = Start::app("hello")
        .certificates(&["server"])
        .args(["--print-config"]);
    let ended = start.run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        format!("certfile = [\"{}\"]", tls_file("server.pem")),
        format!("keyfile = [\"{}\"]", tls_file("server.key")),
        "http-protocols = \"h2,h1\"".to_owned(),
        "tls-min-version = \"1.2\"".to_owned(),
        "http2-cleartext = \"off\"".to_owned(),
    ] {
        assert!(ended.stdout.contains(&part), "{part}: {}", ended.stdout);
    }
}

#[test]
fn keys_are_read_before_the_server_becomes_another_user() {
    // Whoever is not root becomes nobody else.
    if !geteuid().is_root() {
        return;
    }
    let nobody = User::from_name("nobody")
        .unwrap()
        .expect("every system has nobody");
    let folder = tempfile::tempdir().unwrap();
    let (app, key) = (
        folder.path().join("hello.wasm"),
        folder.path().join("secret.key"),
    );
    fs::copy(guest("hello"), &app).unwrap();
    fs::copy(tls_file("server.key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    chown(folder.path(), Some(nobody.uid.as_raw()), None).unwrap();
    let (app, key) = (app.to_str().unwrap(), key.to_str().unwrap());
    let start = Start::new("serve").args([app, "-u", "nobody", "--keyfile", key]);
    let server = start.args(["--certfile", &tls_file("server.pem")]).start();
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
    server.signal(nix::sys::signal::Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
}

// Where it listens.

#[test]
fn ready_lines_say_https() {
    let server = Start::app("hello").certificates(&["server"]).start();
    let [url] = &server.ready_lines(1)[..] else {
        panic!("one line")
    };
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
}

#[test]
fn unix_sockets_have_tls_too() {
    let start = Start::app("hello").certificates(&["server"]);
    let server = start.args(["-b", "unix:web.sock"]).start();
    assert!(matches!(server.address(), Address::Unix(_)));
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
}
