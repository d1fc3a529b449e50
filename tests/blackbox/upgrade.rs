//! Tests of the upgrade: one program follows another on the same listeners, and nobody notices but
//! the operator.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Address, Client, Load, Process, Server, Start, until};

/// A server that says which settings it has read, under `/settings`, and has an app whose requests
/// last as long as a client likes.
pub(crate) fn settings(name: &str, more: &str) -> String {
    format!(
        "pidfile = 'server.pid'\n{more}\n\
         [apps.settings]\ncomponent = '{{wasi-environment}}'\nroutes = ['/settings']\n\
         env = {{ NAME = '{name}' }}\n\
         [apps.echo]\ncomponent = '{{echo}}'\n"
    )
}

pub(crate) fn auto(more: &str) -> Start {
    Start::config(&settings("old", more)).through_link()
}

fn manual() -> Server {
    auto("upgrade-mode = 'manual'").start()
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process can be signalled");
}

/// What is in a pid file, if it is there.
pub(crate) fn pid_file(server: &Server, name: &str) -> Option<i32> {
    let text = fs::read_to_string(server.folder().join(name)).ok()?;
    Some(text.trim().parse().expect("it is a number"))
}

pub(crate) fn told(address: &Address) -> String {
    let response = Client::connect(address).get("/settings");
    assert_eq!(response.status(), 200);
    response.text().trim_end().to_owned()
}

pub(crate) fn is_gone(pid: i32) {
    until("the process has left", || Process::find(pid).is_none());
}

/// Puts a script in the place of the program.
pub(crate) fn switch_to_script(server: &Server, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = server.folder().join("script");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    server.switch_program(path);
}

#[test]
fn the_new_program_takes_over_and_the_old_one_leaves() {
    let mut server = auto("workers = 2").start();
    let old = server.workers(2);
    server.reconfigure(&settings("new", "workers = 3"));
    let new = server.upgrade();
    server.hand_over(new);
    old.into_iter().for_each(is_gone);
    assert_eq!(server.pid(), new);
    server.workers(3);
    assert_eq!(told(server.address()), "NAME=new");
}

#[test]
fn the_pid_file_follows() {
    let mut server = auto("").start();
    let old = server.pid();
    let mut client = server.connect();
    client.begin_echo();
    let new = server.upgrade();
    server.upgraded(new);
    assert_eq!(pid_file(&server, "server.pid"), Some(old));
    assert_eq!(pid_file(&server, "server.pid.2"), Some(new));
    client.finish_echo();
    server.hand_over(new);
    server.wait_log(&["role=arbiter", "the server that started this one has left"]);
    until("the file has its name back", || {
        pid_file(&server, "server.pid") == Some(new)
    });
    assert_eq!(pid_file(&server, "server.pid.2"), None);
    server.stop();
    assert_eq!(pid_file(&server, "server.pid"), None);
}

#[test]
fn the_program_that_is_started_is_the_one_that_the_name_leads_to_now() {
    let mut server = auto("").start();
    let program = fs::read_link(server.folder().join("rgunicorn")).unwrap();
    let script = format!(
        "#!/bin/sh\necho the next version >&2\nexec {} \"$@\"\n",
        program.display()
    );
    switch_to_script(&server, &script);
    let new = server.upgrade();
    server.hand_over(new);
    assert!(server.log().lines().any(|line| line == "the next version"));
    assert_eq!(told(server.address()), "NAME=old");
}

#[test]
fn nobody_is_turned_away_during_upgrades() {
    let mut server = auto("workers = 2").start();
    let load = Load::on(server.address(), "/settings", 4);
    for upgrades in 1..=3 {
        load.more(50);
        let new = server.upgrade();
        server.hand_over(new);
        // Before, it would refuse the next one.
        server.wait_logs(&["the server that started this one has left"], upgrades);
    }
    load.more(50);
    load.none_was_lost();
}

#[test]
fn a_unix_socket_is_handed_over() {
    let mut server = auto("bind = 'unix:web.socket'").start();
    let load = Load::on(server.address(), "/settings", 2);
    load.more(20);
    let new = server.upgrade();
    server.hand_over(new);
    load.more(20);
    load.none_was_lost();
    let Address::Unix(path) = server.address().clone() else {
        panic!("it is a unix socket")
    };
    server.stop();
    assert!(!path.exists());
}

#[test]
fn who_waits_in_the_backlog_when_an_upgrade_begins_is_answered() {
    let mut server = auto("worker-connections = 1").start();
    let mut holds_the_only_place = server.connect();
    holds_the_only_place.begin_echo();
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send("GET /settings HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    let new = server.upgrade();
    for client in &mut waiting {
        client.response().is(200, "NAME=old\n");
    }
    holds_the_only_place.finish_echo();
    server.hand_over(new);
}

#[test]
fn an_upgrade_answers_all_who_wait_at_an_address_that_the_new_settings_have_no_more() {
    let mut server = auto("bind = ['127.0.0.1:0', '127.0.0.1:0']").start();
    let removed = Address::of_url(&server.ready_lines(2)[1]);
    let old = server.worker();
    // It accepts nobody until the new program serves.
    signal(old, Signal::SIGSTOP);
    let mut waiting: Vec<Client> = (0..5).map(|_| Client::connect(&removed)).collect();
    for client in &mut waiting {
        client.send("GET /settings HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    server.reconfigure(&settings("new", "bind = '127.0.0.1:0'"));
    let new = server.upgrade();
    server.wait_log(&["goes on alone"]);
    signal(old, Signal::SIGCONT);
    for client in &mut waiting {
        client.response().is(200, "NAME=old\n");
    }
    server.hand_over(new);
}

#[test]
fn a_response_that_the_old_program_has_begun_is_finished() {
    let mut server = auto("").start();
    let old = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    server.reconfigure(&settings("new", ""));
    let new = server.upgrade();
    server.upgraded(new);
    let address = server.address().clone();
    until("the new program answers", || told(&address) == "NAME=new");
    assert!(Process::find(old).is_some());
    client.finish_echo();
    assert!(client.is_closed());
    server.hand_over(new);
}

#[test]
fn an_upgrade_closes_idle_connections_politely() {
    let mut server = auto("").start();
    let mut idle: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/settings").status(), 200);
    }
    let new = server.upgrade();
    for client in &mut idle {
        assert!(client.is_closed());
    }
    server.hand_over(new);
}

#[test]
fn an_address_that_the_new_settings_have_no_more_is_refused() {
    let mut server = auto("bind = ['127.0.0.1:0', '127.0.0.1:0']").start();
    let removed = Address::of_url(&server.ready_lines(2)[1]);
    assert_eq!(told(&removed), "NAME=old");
    server.reconfigure(&settings("new", "bind = '127.0.0.1:0'"));
    let new = server.upgrade();
    server.hand_over(new);
    assert!(Client::try_connect(&removed).is_err());
    assert_eq!(told(server.address()), "NAME=new");
}

#[test]
fn the_control_socket_is_the_new_servers_when_the_old_one_has_left() {
    let mut server = auto("control-socket = 'control.socket'").start();
    let socket = server.folder().join("control.socket");
    let show = || {
        let socket = socket.to_str().expect("the path is text");
        let args = ["--socket", socket, "--json", "show", "workers"];
        Start::new("ctl").args(args).run()
    };
    let old = format!("\"pid\":{}", server.worker());
    assert!(show().stdout.replace(' ', "").contains(&old));
    let new = server.upgrade();
    server.hand_over(new);
    server.wait_log(&["the server that started this one has left"]);
    let new = format!("\"pid\":{}", server.worker());
    until("the new server answers", || {
        let ended = show();
        ended.code == Some(0) && ended.stdout.replace(' ', "").contains(&new)
    });
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn the_new_server_reloads_and_upgrades_like_the_old_one() {
    let mut server = auto("").start();
    for _ in 0..2 {
        let new = server.upgrade();
        server.hand_over(new);
        until("it is alone", || {
            pid_file(&server, "server.pid") == Some(new)
        });
    }
    server.reconfigure(&settings("reloaded", ""));
    server.signal(Signal::SIGHUP);
    let address = server.address().clone();
    until("it is reloaded", || told(&address) == "NAME=reloaded");
}

#[test]
fn a_server_that_was_reloaded_can_be_upgraded() {
    let mut server = auto("bind = '127.0.0.1:0'").start();
    server.reconfigure(&settings(
        "old",
        "bind = ['127.0.0.1:0', 'unix:more.socket']",
    ));
    server.signal(Signal::SIGHUP);
    server.wait_log(&["role=arbiter generation 2 serves"]);
    let new = server.upgrade();
    server.hand_over(new);
    let more = Address::Unix(server.folder().join("more.socket"));
    assert_eq!(told(server.address()), "NAME=old");
    assert_eq!(told(&more), "NAME=old");
}

#[test]
fn a_stop_during_an_upgrade_stops_both() {
    let mut server = auto("").start();
    switch_to_script(&server, "#!/bin/sh\nexec sleep 86400\n");
    let new = server.upgrade();
    server.signal(Signal::SIGTERM);
    server.stopped();
    is_gone(new);
}

#[test]
fn a_second_upgrade_is_refused_while_the_first_is_under_way() {
    for more in ["upgrade-mode = 'manual'", "upgrade-mode = 'auto'"] {
        let mut server = auto(more).start();
        let mut client = server.connect();
        client.begin_echo();
        let new = server.upgrade();
        server.signal(Signal::SIGUSR2);
        server.wait_log(&["WARN role=arbiter SIGUSR2 ignored", "started already"]);
        server.upgraded(new);
        assert_eq!(server.successors(), [new]);
        if more.contains("manual") {
            server.signal(Signal::SIGTERM);
        }
        client.finish_echo();
        server.hand_over(new);
    }
}

#[test]
fn the_new_server_refuses_to_be_upgraded_before_the_old_one_has_left() {
    let mut server = manual();
    let new = server.upgrade();
    server.upgraded(new);
    signal(new, Signal::SIGUSR2);
    server.wait_log(&["WARN role=arbiter SIGUSR2 ignored", "has not left yet"]);
    server.signal(Signal::SIGTERM);
    server.hand_over(new);
}

#[test]
fn in_manual_mode_both_serve_until_the_old_one_is_told_to_leave() {
    let mut server = manual();
    let old = server.pid();
    server.reconfigure(&settings("new", "upgrade-mode = 'manual'"));
    let new = server.upgrade();
    server.upgraded(new);
    assert_eq!(pid_file(&server, "server.pid"), Some(old));
    assert_eq!(pid_file(&server, "server.pid.2"), Some(new));
    server.workers_of(old, 1);
    server.workers_of(new, 1);
    let address = server.address().clone();
    until("the old program answers", || told(&address) == "NAME=old");
    until("the new program answers", || told(&address) == "NAME=new");
    let load = Load::on(&address, "/settings", 2);
    load.more(20);
    server.signal(Signal::SIGTERM);
    server.hand_over(new);
    load.more(20);
    load.none_was_lost();
    until("the pid file has its name back", || {
        pid_file(&server, "server.pid") == Some(new)
    });
    assert_eq!(pid_file(&server, "server.pid.2"), None);
    assert_eq!(told(&address), "NAME=new");
}

#[test]
fn quit_of_the_old_server_leaves_the_new_one_alone() {
    let mut server = manual();
    let new = server.upgrade();
    server.upgraded(new);
    server.signal(Signal::SIGQUIT);
    server.hand_over(new);
    assert_eq!(told(server.address()), "NAME=old");
}

#[test]
fn winch_sends_the_workers_of_the_old_server_home_and_hup_brings_them_back() {
    let mut server = manual();
    let old = server.pid();
    let new = server.upgrade();
    server.upgraded(new);
    let load = Load::on(server.address(), "/settings", 2);
    load.more(20);
    server.signal(Signal::SIGWINCH);
    server.workers_of(old, 0);
    server.workers_of(new, 1);
    load.more(20);
    server.signal(Signal::SIGHUP);
    server.workers_of(old, 1);
    server.wait_log(&["role=worker", "gen=2", " ready "]);
    load.more(20);
    signal(new, Signal::SIGQUIT);
    is_gone(new);
    server.wait_log(&["this server goes on"]);
    load.end();
    server.expect_errors();
    assert_eq!(told(server.address()), "NAME=old");
    until("only the old pid file is left", || {
        pid_file(&server, "server.pid.2").is_none()
    });
    assert_eq!(pid_file(&server, "server.pid"), Some(old));
}

#[test]
fn the_old_server_takes_over_again_when_the_new_one_is_told_to_stop() {
    let mut server = manual();
    let old = server.pid();
    let new = server.upgrade();
    server.upgraded(new);
    server.signal(Signal::SIGWINCH);
    server.workers_of(old, 0);
    let load = Load::on(server.address(), "/settings", 2);
    load.more(20);
    signal(new, Signal::SIGTERM);
    is_gone(new);
    server.workers_of(old, 1);
    load.more(20);
    load.none_was_lost();
    server.expect_errors();
    assert_eq!(pid_file(&server, "server.pid"), Some(old));
    assert_eq!(pid_file(&server, "server.pid.2"), None);
}

#[test]
fn the_workers_come_back_when_the_new_server_is_killed_while_the_old_one_leaves() {
    let mut server = auto("").start();
    server.expect_errors();
    let mut client = server.connect();
    client.begin_echo();
    let new = server.upgrade();
    server.upgraded(new);
    server.wait_log(&["role=successor", "goes on alone"]);
    signal(new, Signal::SIGKILL);
    server.wait_log(&["ERROR role=successor", "this server goes on", "SIGKILL"]);
    server.wait_logs(&["role=worker", "slot=0", " ready "], 3);
    until("the orphans have left", || {
        let all = Process::all();
        let of_group = all.iter().filter(|process| process.group == server.pid());
        of_group.count() == 3
    });
    assert_eq!(told(server.address()), "NAME=old");
    client.finish_echo();
    server.workers(1);
    assert_eq!(told(server.address()), "NAME=old");
}

#[test]
fn the_new_server_goes_on_when_the_old_one_is_killed() {
    let mut server = manual();
    let old = server.pid();
    let new = server.upgrade();
    server.upgraded(new);
    signal(old, Signal::SIGKILL);
    assert_eq!(server.wait_exit().code(), None);
    server.follow(new);
    until("the pid file has its name back", || {
        pid_file(&server, "server.pid") == Some(new)
    });
    assert_eq!(told(server.address()), "NAME=old");
}

#[test]
fn both_servers_write_to_the_log_file() {
    let mut server = auto("error-logfile = 'server.log'").start();
    let path: PathBuf = server.folder().join("server.log");
    server.signal(Signal::SIGUSR2);
    let new = {
        let mut found = None;
        until("the new program is started", || {
            let log = fs::read_to_string(&path).unwrap();
            let mut lines = log.lines().filter(|line| line.contains(" role=successor "));
            found = lines.find_map(|line| {
                let (_, rest) = line.strip_suffix(" started")?.split_once(" pid=")?;
                rest.parse().ok()
            });
            found.is_some()
        });
        found.expect("it was found")
    };
    server.hand_over(new);
    until("the new server has said that it is alone", || {
        let log = fs::read_to_string(&path).unwrap();
        log.contains("the server that started this one has left")
    });
}
