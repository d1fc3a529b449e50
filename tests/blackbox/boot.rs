//! Tests of the start: listeners, the ready line, workers, what ends a start, and the cache.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Address, Client, Process, Start, guest, in_repository, until};

#[test]
fn the_ready_line_names_the_real_port() {
    let server = Start::app("hello").start();
    let Address::Tcp(address) = server.address() else {
        panic!("TCP")
    };
    assert_ne!(address.port(), 0);
    let expect = format!("Serving HTTP on http://127.0.0.1:{}/", address.port());
    let lines = server.log().lines().filter(|line| *line == expect).count();
    assert_eq!(lines, 1);
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    let start = Start::app("hello");
    let path = start.folder().join("web.sock");
    let mut server = start
        .args(["--bind", &format!("unix:{}", path.display())])
        .start();
    assert_eq!(server.address(), &Address::Unix(path.clone()));
    server.get("/?name=unix").is(200, "hello, unix\n");
    server.stop();
    assert!(!path.exists());
}

#[test]
fn an_ipv6_address_is_served() {
    // A machine without IPv6 must say so in the terms of the contract.
    if TcpListener::bind("[::1]:0").is_err() {
        let ended = Start::app("hello").args(["--bind", "[::1]:0"]).run();
        return assert_eq!(ended.code, Some(6), "{ended:?}");
    }
    let server = Start::app("hello").args(["--bind", "[::1]:0"]).start();
    let lines = server.ready_lines(1);
    assert!(lines[0].starts_with("http://[::1]:"), "{lines:?}");
    server.get("/").is(200, "hello\n");
}

#[test]
fn an_inherited_socket_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = Start::app("hello").stdin(OwnedFd::from(listener));
    let server = start
        .setup("exec 3<&0 </dev/null")
        .args(["--bind", "fd://3"])
        .start();
    assert_eq!(server.ready_lines(1), [format!("http://{address}/")]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn every_listener_is_served_by_the_same_workers() {
    let start = Start::app("hello");
    let socket = format!("unix:{}", start.folder().join("web.sock").display());
    let binds = [
        "-b",
        "127.0.0.1:0",
        "-b",
        &socket,
        "--addr",
        "127.0.0.1:0",
        "-w",
        "2",
    ];
    let server = start.args(binds).start();
    let urls = server.ready_lines(3);
    assert_eq!(urls.len(), 3);
    assert_eq!(urls[1], socket);
    for url in urls {
        Client::connect(&Address::of_url(&url))
            .get("/")
            .is(200, "hello\n");
    }
    server.workers(2);
}

#[test]
fn the_number_of_workers_is_what_the_last_place_says() {
    let count = |start: Start| {
        let server = start.start();
        // Whoever is forked later than the first is ready later, and before the server stops.
        until("all workers are ready", || {
            let ready = server.log().matches(" ready boot_ms=").count();
            ready > 0 && ready == server.workers_now().len()
        });
        server.workers_now().len()
    };
    assert_eq!(count(Start::app("hello").args(["--workers", "3"])), 3);
    let concurrency = || {
        Start::app("hello")
            .env("RGUNICORN_WORKERS", "")
            .env("WEB_CONCURRENCY", "2")
    };
    assert_eq!(count(concurrency()), 2);
    assert_eq!(count(concurrency().args(["-w", "1"])), 1);
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        count(Start::app("hello").env("RGUNICORN_WORKERS", "")),
        cpus
    );
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for (start, part) in [
        (
            Start::app("hello").args(["--no-such-option"]),
            "--no-such-option",
        ),
        (
            Start::app("hello").args(["--workers", "many"]),
            "--workers: `many` is not a whole number",
        ),
        (
            Start::app("hello").args(["--workers", "0"]),
            "--workers: `0` is outside of 1 to 1024",
        ),
        (Start::new("frobnicate"), "frobnicate"),
    ] {
        let ended = start.run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
}

#[test]
fn a_worker_that_cannot_boot_is_exit_code_3() {
    // There is no room for the instances of a worker, but enough for all that comes before.
    let start = Start::app("hello").setup("ulimit -v 2000000");
    let ended = start
        .args(["--compile-memory", "1GiB", "--memory-limit", "4GiB"])
        .run();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let reasons = ended
        .stderr
        .matches("cannot start the wasm runtime")
        .count();
    assert_eq!(reasons, 1, "{ended:?}");
    assert!(!ended.stderr.contains("Serving HTTP"));
}

#[test]
fn what_cannot_be_served_is_exit_code_4_and_says_why() {
    for (name, reason) in [
        (
            "load-no-world",
            "exports wasi:cli/run@0.2.0, but rgunicorn:http/handler@0.1 or",
        ),
        (
            "load-newer-world",
            "exports rgunicorn:http/handler@0.9.0, but",
        ),
        ("load-empty-handler", "cannot be"),
        ("load-module", "a core module without component metadata"),
        ("load-text", "not a WebAssembly component"),
        ("load-empty", "not a WebAssembly component"),
        ("load-half", "not a WebAssembly component"),
        ("app-unknown-import", "acme:kv/store"),
        ("app-boot-trap", "cannot make an instance"),
    ] {
        let ended = Start::app(name).run();
        assert_eq!(ended.code, Some(4), "{name}: {ended:?}");
        assert_eq!(ended.stderr.matches(reason).count(), 1, "{name}: {ended:?}");
        assert!(ended.stderr.contains(name), "{name}: {ended:?}");
        assert!(!ended.stderr.contains("Serving HTTP"), "{name}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{name}: {ended:?}");
    }
}

#[test]
fn an_app_that_is_not_there_is_exit_code_4() {
    let ended = Start::new("serve").args(["no-such-file.wasm"]).run();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let line = "cannot read no-such-file.wasm: No such file or directory";
    let absolute = "no-such-file.wasm: No such file or directory";
    assert!(
        ended.stderr.contains(line) || ended.stderr.contains(absolute),
        "{ended:?}"
    );
}

#[test]
fn an_address_in_use_is_exit_code_6() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Start::app("hello").args(["--bind", &address]).run();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let expect = format!("rgunicorn: cannot bind http://{address}/: address in use");
    assert_eq!(ended.line(), expect);
    let ended = Start::app("hello").args(["--bind", "fd://77"]).run();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert_eq!(
        ended.line(),
        "rgunicorn: cannot serve fd://77: it is not open"
    );
}

/// The kernel would let it share the port, and give it half of the connections.
#[test]
fn a_second_server_with_a_queue_for_each_worker_is_exit_code_6() {
    let reuseport = || Start::app("hello").args(["--accept", "reuseport", "-w", "2"]);
    let first = reuseport().start();
    let Address::Tcp(address) = first.address() else {
        panic!("TCP")
    };
    let ended = reuseport().args(["--bind", &address.to_string()]).run();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let expect = format!("rgunicorn: cannot bind http://{address}/: address in use");
    assert_eq!(ended.line(), expect);
}

#[test]
fn too_few_descriptors_for_the_workers_are_told() {
    let start = Start::app("hello").args(["-w", "200"]);
    let ended = start.setup("ulimit -n 150").run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended.line(),
        "rgunicorn: cannot make a group of workers: Too many open files (os error 24): \
         200 workers take more than 400, and the limit is 150"
    );
}

#[test]
fn a_second_start_compiles_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("deep").join("cache");
    let start = || {
        Start::app("hello")
            .args(["--cache-dir", folder.to_str().unwrap()])
            .start()
    };
    let first = start().log();
    assert!(
        first.contains("compiling ") && first.contains("compiled to "),
        "{first}"
    );
    let kept = names(&folder);
    assert!(kept.len() == 1 && kept[0].ends_with(".cwasm"), "{kept:?}");
    let second = start().log();
    assert!(
        second.contains("compiled before, from the cache"),
        "{second}"
    );
    assert!(!second.contains("compiling "), "{second}");
    assert_eq!(names(&folder), kept);
}

#[test]
fn without_a_cache_each_start_compiles() {
    for _ in 0..2 {
        let server = Start::app("hello").args(["--cache-dir", "none"]).start();
        assert!(server.log().contains("compiling "));
        server.get("/").is(200, "hello\n");
    }
}

#[test]
fn a_cache_that_others_can_write_is_not_used() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("cache");
    let folder_text = folder.to_str().unwrap();
    let start = || {
        Start::app("hello")
            .args(["--cache-dir", folder_text])
            .start()
    };
    drop(start());
    assert_eq!(names(&folder).len(), 1);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let server = start();
    server.wait_log(&["cache-dir", "not used, since others can write to it"]);
    assert!(server.log().contains("compiling "), "the cache was used");
    server.get("/").is(200, "hello\n");
}

#[test]
fn an_artefact_that_others_can_write_is_not_used() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("cache");
    let start = || {
        Start::app("hello")
            .args(["--cache-dir", folder.to_str().unwrap()])
            .start()
    };
    drop(start());
    let artefact = folder.join(&names(&folder)[0]);
    fs::set_permissions(&artefact, fs::Permissions::from_mode(0o666)).unwrap();
    let server = start();
    assert!(server.log().contains("compiling "), "the artefact was used");
    server.get("/").is(200, "hello\n");
}

#[test]
fn an_artefact_that_is_damaged_does_not_keep_the_server_from_starting() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("cache");
    let start = || {
        Start::app("hello")
            .args(["--cache-dir", folder.to_str().unwrap()])
            .start()
    };
    drop(start());
    let artefact = folder.join(&names(&folder)[0]);
    let whole = fs::read(&artefact).unwrap();
    for damaged in [&whole[..0], &whole[..1000], &whole[..whole.len() / 2]] {
        fs::write(&artefact, damaged).unwrap();
        start().get("/").is(200, "hello\n");
        assert_eq!(
            fs::read(&artefact).unwrap(),
            whole,
            "the damaged artefact is still there"
        );
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_long_compilation_tells_that_it_goes_on() {
    let mut server = Start::app("python").args(["--cache-dir", "none"]).spawn();
    server.wait_log(&["compiling "]);
    // However fast the machine is: time passes for the clock and not for the compiler.
    let loader = server.worker();
    kill(Pid::from_raw(loader), Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    until("the loader has been stopped for a while", || {
        stopped.elapsed() > Duration::from_secs(6)
    });
    kill(Pid::from_raw(loader), Signal::SIGCONT).unwrap();
    server.wait_log(&["still compiling after ", "app=\"python\""]);
    // A stop does not wait for the compiler.
    server.signal(Signal::SIGTERM);
    server.stopped();
    assert!(!server.log().contains("compiled to "));
}

#[test]
fn nothing_of_the_servers_environment_and_arguments_reaches_the_app() {
    let start = Start::app("wasi-environment").env("SECRET", "hidden");
    let server = start.args(["--env", "GREETING=hi there"]).start();
    server.get("/").is(200, "GREETING=hi there\n");
}

#[test]
fn the_committed_hello_component_answers_as_the_one_built_from_its_source() {
    let committed = in_repository("examples/hello/hello.wasm");
    let built = Start::app("hello").start();
    let committed = Start::new("serve")
        .args([committed.to_str().unwrap()])
        .start();
    let mut clients = [built.connect(), committed.connect()];
    for request in [
        "GET /",
        "GET /?name=you",
        "GET /?name=a%20b%26",
        "GET /else",
        "DELETE /",
        "POST /",
    ] {
        let [mut built, mut committed] = clients.each_mut().map(|client| {
            client.send(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            client.response()
        });
        for response in [&mut built, &mut committed] {
            response.head.fields.retain(|(name, _)| name != "date");
        }
        assert_eq!(built, committed, "{request}");
    }
    let size = |path: &str| fs::metadata(path).unwrap().len();
    assert!(
        size(&guest("hello")) < 200_000,
        "the smallest app should stay small"
    );
}

#[test]
fn a_worker_has_one_thread() {
    let start = Start::app("hello").args(["-w", "2"]).start();
    for pid in start.workers(2) {
        assert_eq!(Process::find(pid).unwrap().threads, 1);
    }
    assert_eq!(
        Process::find(start.pid()).unwrap().threads,
        1,
        "the arbiter"
    );
}
