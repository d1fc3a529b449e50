//! Defines the tests of what the operator writes and what the server answers.

use super::*;
use crate::sys::fork_lock;

fn requested(line: &str, variable: Option<&str>) -> Result<Request, Failed> {
    let words = std::iter::once("ctl").chain(line.split_whitespace());
    let matches = command().try_get_matches_from(words).unwrap();
    request(&matches, variable.map(OsString::from))
}

#[test]
fn the_arguments_are_well_made() {
    command().debug_assert();
}

#[test]
fn each_order_can_be_written() {
    let check = |line: &str, expect, verb: &str| {
        let Ok(request) = requested(line, Some("/s")) else {
            panic!("{line}");
        };
        assert_eq!((request.order, request.verb.as_str()), (expect, verb));
    };
    check("show", Order::Show(What::All), "show");
    for what in What::EACH {
        let line = format!("show {}", what.name());
        check(&line, Order::Show(what), "show");
    }
    check("worker add", Order::WorkerAdd(1), "worker add");
    check("worker add 3", Order::WorkerAdd(3), "worker add");
    check("worker remove", Order::WorkerRemove(1), "worker remove");
    check("worker remove 2", Order::WorkerRemove(2), "worker remove");
    let kill = Order::WorkerKill { pid: 4711 };
    check("worker kill 4711", kill, "worker kill");
    check("reload", Order::Reload, "reload");
    check("reopen", Order::Reopen, "reopen");
    check("upgrade", Order::Upgrade, "upgrade");
    let stop = |quick| Order::Shutdown { quick };
    check("shutdown", stop(false), "shutdown");
    check("shutdown graceful", stop(false), "shutdown");
    check("shutdown quick", stop(true), "shutdown");
}

#[test]
fn nothing_else_is_an_order() {
    for line in [
        "",
        "worker",
        "show everything",
        "show all workers",
        "worker add 0",
        "worker add -1",
        "worker kill",
        "worker kill 0",
        "shutdown now",
        "reload --timeout -1",
    ] {
        let words = std::iter::once("ctl").chain(line.split_whitespace());
        assert!(command().try_get_matches_from(words).is_err(), "{line}");
    }
}

#[test]
fn the_socket_is_named_by_the_command_line_or_by_a_variable() {
    let check = |line, variable, expect: Option<&str>| match requested(line, variable) {
        Ok(request) => assert_eq!(Some(request.socket.as_path()), expect.map(Path::new)),
        Err(failed) => {
            assert_eq!((expect, failed.code), (None, ExitCode::Usage), "{line}");
            assert!(failed.text.contains(VARIABLE), "{}", failed.text);
        }
    };
    check("--socket /one show", None, Some("/one"));
    check("show --socket /one", Some("/other"), Some("/one"));
    check("worker --socket /one add", None, Some("/one"));
    check("worker add --socket /one", None, Some("/one"));
    check("show", Some("/other"), Some("/other"));
    check("show", None, None);
    check("show", Some(""), None);
    check("show", Some("none"), None);
}

#[test]
fn only_what_takes_long_is_waited_for_without_end() {
    let check = |line, expect: Option<u64>| {
        let Ok(request) = requested(line, Some("/s")) else {
            panic!("{line}");
        };
        assert_eq!(request.patience, expect.map(Duration::from_secs), "{line}");
    };
    check("show", Some(10));
    check("worker add", Some(10));
    check("reopen", Some(10));
    check("shutdown", Some(10));
    check("reload", None);
    check("upgrade", None);
    check("reload --timeout 60", Some(60));
    check("--timeout 3 upgrade", Some(3));
    check("show --timeout 0", None);
}

/// What the client makes of a server that has said this already, and then closed if `closes`.
fn conversation(said: &[Vec<u8>], closes: bool) -> Result<Answered, String> {
    let _closing = fork_lock::closing();
    let (client, server) = Channel::pair().unwrap();
    for frame in said {
        server.send_blocking(frame, &[]).unwrap();
    }
    let server = Some(server).filter(|_| !closes);
    let answered = converse(&client, Order::Reload, Some(Duration::ZERO));
    if let Some(server) = server {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let Ok(Recv::Frame { len, .. }) = server.recv(&mut buffer) else {
            panic!("the order has not been said");
        };
        assert_eq!(buffer[..len], Order::Reload.encode());
    }
    answered
}

#[test]
fn an_answer_is_heard_to_its_last_word() {
    let part = |bytes: &[u8]| Answer::Part(bytes.to_vec()).encode();
    let done = Answer::Done("generation 2".to_owned()).encode();
    let refused = Answer::Refused("no".to_owned()).encode();
    let answered = |document: &[u8], last| {
        let document = document.to_vec();
        Ok(Answered { document, last })
    };
    for closes in [false, true] {
        let said = [part(b"{"), part(b"}"), done.clone()];
        let expect = answered(b"{}", Ok("generation 2".to_owned()));
        assert_eq!(conversation(&said, closes), expect);
        // A server with too many clients says so and closes, whatever was to be asked.
        let said = std::slice::from_ref(&refused);
        let expect = answered(b"", Err("no".to_owned()));
        assert_eq!(conversation(said, closes), expect);
    }
}

#[test]
fn an_answer_that_does_not_come_is_one_line() {
    let check = |said: &[Vec<u8>], closes, expect: &str| {
        let error = conversation(said, closes).unwrap_err();
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    let part = Answer::Part(b"{".to_vec()).encode();
    check(&[], false, "no answer within 0 s, but it may");
    check(std::slice::from_ref(&part), false, "no answer within 0 s");
    check(&[], true, "does not listen");
    check(&[part, vec![7; 9]], false, "not understood");
    let (client, _server) = Channel::pair().unwrap();
    let order = Order::Show(What::All);
    let error = converse(&client, order, Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error, "no answer within 0 s; see --timeout");
}

#[test]
fn a_server_that_is_not_there_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let check = |socket: PathBuf, expect: &str| {
        let request = Request {
            json: false,
            patience: None,
            order: Order::Reload,
            verb: "reload".to_owned(),
            socket,
        };
        let error = ask(&request).unwrap_err();
        let expect = [expect, &request.socket.to_string_lossy()];
        assert!(expect.iter().all(|part| error.contains(part)), "{error}");
    };
    let file = folder.path().join("file");
    check(file.clone(), "does a server run");
    std::fs::write(&file, "").unwrap();
    check(file, "no server listens there");
    let stream = folder.path().join("stream");
    let _listener = std::os::unix::net::UnixListener::bind(&stream).unwrap();
    check(stream, "is it the --control-socket");
}

fn answered(document: &str, last: Result<&str, &str>) -> Answered {
    Answered {
        document: document.as_bytes().to_vec(),
        last: last.map(str::to_owned).map_err(str::to_owned),
    }
}

#[test]
fn people_are_shown_text() {
    let check = |document, last, expect: Result<&str, &str>| {
        let shown = human(&answered(document, last));
        let shown = shown.as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!(shown, expect);
    };
    check("", Ok(""), Ok("done\n"));
    check("", Ok("workers: 3\x07"), Ok("workers: 3\\u{7}\n"));
    check(
        "",
        Err("one worker is the least"),
        Err("one worker is the least"),
    );
    check("{\"listeners\": []}", Ok(""), Ok("none\n"));
    check("{}", Ok(""), Ok("nothing\n"));
    let error = human(&answered("{\"listeners\": 3}", Ok(""))).unwrap_err();
    assert!(error.contains("another version"), "{error}");
}

#[test]
fn programs_are_shown_json() {
    let check = |document, last, expect: &str, code| {
        let (text, found) = json(&answered(document, last)).unwrap();
        assert_eq!((text.as_str(), found), (expect, code));
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    };
    let ok = "{\"status\":\"ok\",\"message\":\"workers: 3\"}\n";
    check("", Ok("workers: 3"), ok, ExitCode::Ok);
    let refused = "{\"status\":\"refused\",\"message\":\"\\\"x\\\" \\u001b \\u009b\"}\n";
    check("", Err("\"x\" \x1b \u{9b}"), refused, ExitCode::Failure);
    // What a later version knows is passed on.
    let later = "{\"weather\":\"\u{9b}\"}";
    check(later, Ok(""), "{\"weather\":\"\\u009b\"}\n", ExitCode::Ok);
    for broken in ["{", "{} {}"] {
        assert!(json(&answered(broken, Ok(""))).is_err());
    }
    let mut answered = answered("{}", Ok(""));
    answered.document.push(0xff);
    assert!(json(&answered).is_err());
}
