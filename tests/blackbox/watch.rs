//! Tests of `--reload`: files that change are served when they have settled, and broken ones are not.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Process, Server, Start, guest, until};

/// Lets time pass in which the test does nothing.
fn pass(time: Duration) {
    let started = Instant::now();
    until("time passes", || started.elapsed() > time);
}

/// Puts a guest's component at a path, as a build tool does that never leaves half of one there.
fn replace(path: &Path, name: &str) {
    let fresh = path.with_extension("fresh");
    fs::copy(guest(name), &fresh).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// A server of `app.wasm` in its own folder, which is `wasi-sleep`.
fn serving(args: &[&str]) -> (Server, PathBuf) {
    let start = Start::new("serve");
    let path = start.folder().join("app.wasm");
    fs::copy(guest("wasi-sleep"), &path).unwrap();
    let server = start.args(["app.wasm"]).args(args.iter().copied()).start();
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    (server, path)
}

/// Waits until a generation serves, and nobody else does.
fn serves(server: &Server, generation: u32) {
    server.wait_log(&[&format!("role=arbiter generation {generation} serves")]);
    let title = format!("rgunicorn: worker 0 gen {generation} ready");
    until("the workers before have left", || {
        let workers = server.workers_now();
        workers.len() == 1 && Process::title(workers[0]) == title
    });
}

fn reloads(server: &Server) -> usize {
    server.log().matches("role=arbiter reloading: ").count()
}

#[test]
fn a_component_that_was_replaced_is_served() {
    let (server, path) = serving(&["--reload"]);
    replace(&path, "hello");
    serves(&server, 2);
    server.get("/?name=you").is(200, "hello, you\n");
    // The watch goes on for the file that is there now.
    replace(&path, "wasi-sleep");
    serves(&server, 3);
    server.get("/?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn a_component_that_was_written_in_its_place_is_served() {
    let (server, path) = serving(&["--reload"]);
    fs::copy(guest("hello"), &path).unwrap();
    serves(&server, 2);
    server.get("/?name=you").is(200, "hello, you\n");
}

#[test]
fn settings_that_were_edited_are_in_force() {
    let settings = |number: u32| {
        format!(
            "reload = true\n[apps.environment]\ncomponent = '{{wasi-environment}}'\n\
             env = {{ NUMBER = '{number}' }}\n"
        )
    };
    let server = Start::config(&settings(1)).start();
    server.get("/").is(200, "NUMBER=1\n");
    server.reconfigure(&settings(2));
    serves(&server, 2);
    server.get("/").is(200, "NUMBER=2\n");
    // In its place, as some editors do.
    let path = server.folder().join("rgunicorn.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("NUMBER = '2'", "NUMBER = '3'")).unwrap();
    serves(&server, 3);
    server.get("/").is(200, "NUMBER=3\n");
}

#[test]
fn an_app_that_was_added_is_watched_too() {
    let start = Start::config("reload = true\n[apps.hello]\ncomponent = '{hello}'\n");
    let path = start.folder().join("added.wasm");
    let server = start.start();
    fs::copy(guest("hello"), &path).unwrap();
    server.reconfigure(
        "reload = true\n[apps.hello]\ncomponent = '{hello}'\n\
         [apps.added]\ncomponent = 'added.wasm'\nroutes = ['/added']\n",
    );
    serves(&server, 2);
    server.get("/added").is(404, "there is nothing here\n");
    replace(&path, "wasi-sleep");
    serves(&server, 3);
    server.get("/added?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn a_broken_component_is_not_served_and_the_log_says_why() {
    let (mut server, path) = serving(&["--reload"]);
    server.expect_errors();
    let worker = server.worker();
    fs::write(&path, "no component").unwrap();
    let failed = "ERROR role=arbiter generation 2 failed, the one before goes on: ";
    let line = server.wait_log(&[failed]);
    assert!(
        line.contains("app.wasm") && line.contains("not a WebAssembly component"),
        "{line}"
    );
    assert_eq!(server.worker(), worker);
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    // Mended again it is served.
    replace(&path, "hello");
    serves(&server, 3);
    server.get("/?name=you").is(200, "hello, you\n");
}

#[test]
fn broken_settings_change_nothing_until_they_are_mended() {
    let good = "reload = true\n[apps.hello]\ncomponent = '{hello}'\n";
    let mut server = Start::config(good).start();
    server.expect_errors();
    let worker = server.worker();
    server.reconfigure("reload = true\nworkers = 'many'\n[apps.hello]\ncomponent = '{hello}'\n");
    server.wait_log(&[
        "ERROR role=arbiter generation 2 failed",
        "rgunicorn.toml:2:",
        "workers",
    ]);
    assert_eq!(server.worker(), worker);
    server.get("/").is(200, "hello\n");
    server.reconfigure(good);
    serves(&server, 3);
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_file_that_was_removed_is_served_when_it_is_back() {
    let (mut server, path) = serving(&["--reload"]);
    server.expect_errors();
    fs::remove_file(&path).unwrap();
    server.wait_log(&["ERROR role=arbiter generation 2 failed", "No such file"]);
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    replace(&path, "hello");
    serves(&server, 3);
    server.get("/?name=you").is(200, "hello, you\n");
}

/// Writes a component piece by piece, and says whether the pieces followed each other fast enough
/// to count as one change.
fn write_slowly(path: &Path, name: &str) -> bool {
    const PIECES: usize = 12;
    // The server waits for 300 ms, but it runs beside a test that may be held up.
    const FAST: Duration = Duration::from_millis(150);
    let bytes = fs::read(guest(name)).unwrap();
    fs::write(path, b"").unwrap();
    let mut fast = true;
    let mut last = Instant::now();
    for piece in bytes.chunks(bytes.len().div_ceil(PIECES)) {
        pass(Duration::from_millis(50));
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(piece).unwrap();
        drop(file);
        fast &= last.elapsed() < FAST;
        last = Instant::now();
    }
    fast
}

#[test]
fn a_file_that_is_written_in_several_pieces_reloads_once() {
    for _ in 0..10 {
        let (mut server, path) = serving(&["--reload"]);
        if !write_slowly(&path, "hello") {
            server.expect_errors();
            continue;
        }
        serves(&server, 2);
        server.get("/?name=you").is(200, "hello, you\n");
        // Whatever else it had seen would have come before this.
        replace(&path, "wasi-sleep");
        serves(&server, 3);
        assert_eq!(reloads(&server), 2);
        return;
    }
    panic!("this machine is too slow to write a file");
}

#[test]
fn an_extra_file_is_watched() {
    let start = Start::app("hello");
    let path = start.write("notes.txt", "one");
    let server = start
        .args(["--reload", "--reload-extra-file", "notes.txt"])
        .start();
    fs::write(path, "two").unwrap();
    serves(&server, 2);
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_component_behind_a_link_is_served_when_the_link_is_switched() {
    let start = Start::new("serve");
    let folder = start.folder();
    for (version, name) in [("one", "hello"), ("two", "wasi-sleep")] {
        fs::create_dir(folder.join(version)).unwrap();
        fs::copy(guest(name), folder.join(version).join("app.wasm")).unwrap();
    }
    symlink("one", folder.join("current")).unwrap();
    let server = start.args(["current/app.wasm", "--reload"]).start();
    server.get("/?ms=1").is(200, "hello\n");
    symlink("two", folder.join("next")).unwrap();
    fs::rename(folder.join("next"), folder.join("current")).unwrap();
    serves(&server, 2);
    server.get("/?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn other_files_in_the_folder_are_of_no_interest() {
    let (server, path) = serving(&["--reload"]);
    fs::write(path.with_file_name("other.wasm"), "1").unwrap();
    pass(Duration::from_secs(1));
    replace(&path, "hello");
    serves(&server, 2);
    assert_eq!(reloads(&server), 1);
}

#[test]
fn without_the_setting_nothing_is_watched() {
    let (server, path) = serving(&[]);
    replace(&path, "hello");
    pass(Duration::from_secs(1));
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    assert_eq!(reloads(&server), 0);
}
