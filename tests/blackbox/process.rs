//! Tests of how the server behaves as a process among others: its pid file, what it leaves in the file
//! system, and how ps(1) shows it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Process, Start, until, until_some};

pub(crate) fn signal_process(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process can be signalled");
}

pub(crate) fn pid_in(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

// The pid file.

#[test]
fn the_pid_file_holds_the_servers_number_and_is_removed_at_the_end() {
    let mut server = Start::app("hello").args(["--pid", "server.pid"]).start();
    let path = server.folder().join("server.pid");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("{}\n", server.pid()));
    let others_may_read = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(others_may_read, 0o644);
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_pid_file_that_a_dead_server_has_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.pid");
    let start = || {
        let path = path.to_str().unwrap();
        Start::app("hello").args(["--pid", path]).start()
    };
    let mut killed = start();
    signal_process(killed.pid(), Signal::SIGKILL);
    killed.wait_exit();
    killed.no_process_is_left();
    assert_eq!(pid_in(&path), Some(killed.pid()));
    let server = start();
    assert_eq!(pid_in(&path), Some(server.pid()));
}

#[test]
fn a_pid_file_that_names_a_living_process_of_another_kind_is_replaced() {
    let start = Start::app("hello");
    // After a restart of the machine the number may be anybody's.
    let path = start.write("server.pid", &format!("{}\n", std::process::id()));
    let server = start.args(["--pid", &path]).start();
    assert_eq!(pid_in(Path::new(&path)), Some(server.pid()));
}

#[test]
fn a_pid_file_of_a_living_server_refuses_the_start_and_names_it() {
    let server = Start::app("hello").args(["--pid", "server.pid"]).start();
    let path = server.folder().join("server.pid");
    let second = Start::app("hello").args(["--pid", path.to_str().unwrap()]);
    let ended = second.run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let pid = server.pid();
    let expect = format!("{}: already in use by process {pid}", path.display());
    assert!(ended.line().ends_with(&expect), "{ended:?}");
    assert_eq!(pid_in(&path), Some(pid));
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_start_that_fails_leaves_no_pid_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.pid");
    let start = Start::app("app-boot-trap").args(["--pid", path.to_str().unwrap()]);
    assert_eq!(start.run().code, Some(4));
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "something is left");
}

// Files and folders.

#[test]
fn the_umask_holds_for_unix_sockets() {
    for (mask, mode) in [("077", 0o700), ("0o007", 0o770)] {
        let start = Start::app("hello").args(["--umask", mask, "-b", "unix:web.sock"]);
        let server = start.start();
        let socket = fs::metadata(server.folder().join("web.sock")).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, mode);
        server.get("/").is(200, "hello\n");
    }
}

#[test]
fn chdir_is_where_the_processes_are_and_relative_paths_do_not_start_there() {
    let start = Start::app("hello");
    let elsewhere = start.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let elsewhere = elsewhere.canonicalize().unwrap();
    let args = [
        "--chdir",
        "elsewhere",
        "--pid",
        "server.pid",
        "-b",
        "unix:web.sock",
    ];
    let mut server = start.args(args).start();
    for pid in [server.pid(), server.worker()] {
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        assert_eq!(folder, elsewhere);
    }
    let files = ["server.pid", "web.sock"].map(|name| server.folder().join(name));
    assert!(files.iter().all(|file| file.exists()));
    server.get("/").is(200, "hello\n");
    server.stop();
    assert!(files.iter().all(|file| !file.exists()));
}

#[test]
fn a_folder_that_is_not_there_to_change_to_is_exit_code_5() {
    let ended = Start::app("hello")
        .args(["--chdir", "/no/such/folder"])
        .run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.line().contains("chdir"), "{ended:?}");
    assert!(ended.line().contains("/no/such/folder"), "{ended:?}");
}

// Titles.

fn has_title(pid: i32, title: &str) {
    until(&format!("the title is {title:?}"), || {
        Process::title(pid) == title
    });
}

#[test]
fn titles_name_role_slot_generation_and_state() {
    let server = Start::app("echo").args(["-w", "2"]).start();
    has_title(server.pid(), "rgunicorn: arbiter gen 1 running");
    let mut titles: Vec<String> = until_some("both workers are ready", || {
        let workers = server.workers_now();
        let titles: Vec<String> = workers.into_iter().map(Process::title).collect();
        let ready = titles
            .iter()
            .filter(|title| title.ends_with(" ready"))
            .count();
        (ready == 2).then_some(titles)
    });
    titles.sort();
    assert_eq!(
        titles,
        [
            "rgunicorn: worker 0 gen 1 ready",
            "rgunicorn: worker 1 gen 1 ready"
        ]
    );
}

#[test]
fn titles_follow_what_happens() {
    let mut server = Start::app("echo").start();
    let old = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    server.signal(Signal::SIGHUP);
    has_title(old, "rgunicorn: worker 0 gen 1 draining");
    has_title(server.pid(), "rgunicorn: arbiter gen 2 running");
    let new = until_some("the new worker", || {
        server
            .workers_now()
            .into_iter()
            .find(|worker| *worker != old)
    });
    has_title(new, "rgunicorn: worker 0 gen 2 ready");
    server.signal(Signal::SIGTERM);
    has_title(server.pid(), "rgunicorn: arbiter gen 2 stopping");
    client.finish_echo();
    server.stopped();
}

#[test]
fn the_loader_has_a_title_too() {
    let mut server = Start::app("python").args(["--cache-dir", "none"]).spawn();
    server.wait_log(&["compiling "]);
    let title = Process::title(server.worker());
    assert!(title.starts_with("rgunicorn: loader gen 1"), "{title}");
    has_title(server.pid(), "rgunicorn: arbiter gen 1 starting");
    server.stop();
}

#[test]
fn titles_begin_with_the_name_that_is_set() {
    let server = Start::app("hello").args(["--name", "shop"]).start();
    has_title(server.pid(), "shop: arbiter gen 1 running");
    has_title(server.worker(), "shop: worker 0 gen 1 ready");
}
