//! Tests of workers that are another user than the arbiter.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, geteuid};
use tempfile::TempDir;

use crate::harness::{Process, Start, guest, until};

// Users and groups.

/// Whether the test may make processes of other users. Where it may not, the server may not either
/// and must say so.
fn is_root() -> bool {
    if geteuid().is_root() {
        return true;
    }
    let ended = Start::app("hello").args(["--user", "root"]).run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let reason = "cannot become the user or group that it should be: Operation not permitted";
    assert!(ended.stderr.contains(reason), "{ended:?}");
    false
}

/// A folder that belongs to another user, with a component that this one can read.
fn folder_of(user: &User) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("hello.wasm");
    fs::copy(guest("hello"), &app).unwrap();
    for path in [folder.path(), &app] {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let app = app.to_str().unwrap().to_owned();
    (folder, app)
}

fn nobody() -> User {
    User::from_name("nobody")
        .unwrap()
        .expect("every system has nobody")
}

/// Real, effective, saved and file system user and group, and the other groups.
fn identity(pid: i32) -> [Vec<u64>; 3] {
    ["Uid:", "Gid:", "Groups:"].map(|key| Process::numbers(pid, key))
}

fn all_of(user: u32, group: u32) -> [Vec<u64>; 3] {
    let (user, group) = (u64::from(user), u64::from(group));
    [vec![user; 4], vec![group; 4], vec![group]]
}

#[test]
fn workers_run_as_the_user_with_its_groups_and_the_arbiter_does_not() {
    if !is_root() {
        return;
    }
    let nobody = nobody();
    let (_folder, app) = folder_of(&nobody);
    let own = identity(std::process::id().try_into().unwrap());
    let server = Start::new("serve")
        .args([&app])
        .args(["-u", "nobody", "-w", "2"])
        .start();
    let expect = all_of(nobody.uid.as_raw(), nobody.gid.as_raw());
    for worker in server.workers(2) {
        // The second may not have come that far when the first serves.
        until("a worker has become the user", || {
            identity(worker) == expect
        });
    }
    assert_eq!(identity(server.pid()), own);
    server.get("/").is(200, "hello\n");
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    for worker in server.workers(2) {
        assert_eq!(identity(worker), expect, "after a reload");
    }
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_user_has_all_groups_that_the_system_lists() {
    if !is_root() {
        return;
    }
    let groups = fs::read_to_string("/etc/group").unwrap();
    // A line is NAME:PASSWORD:NUMBER:MEMBERS. A machine may have nobody in any group.
    let listed = groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let user = fields.get(3)?.split(',').find(|user| !user.is_empty())?;
        let user = User::from_name(user).ok()??;
        let group: u64 = fields.get(2)?.parse().ok()?;
        (!user.uid.is_root()).then_some((user, group))
    });
    let Some((user, group)) = listed else {
        return;
    };
    let (_folder, app) = folder_of(&user);
    let server = Start::new("serve")
        .args([&app])
        .args(["-u", &user.name])
        .start();
    let [_, _, groups] = identity(server.worker());
    assert!(groups.contains(&group), "{groups:?}");
    assert!(groups.contains(&user.gid.as_raw().into()), "{groups:?}");
}

#[test]
fn numbers_without_an_account_are_users_and_groups_too() {
    if !is_root() {
        return;
    }
    let (folder, app) = folder_of(&nobody());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let start = Start::new("serve")
        .args([&app])
        .env("RGUNICORN_CACHE_DIR", "none");
    let server = start.args(["-u", "54321", "-g", "54322"]).start();
    assert_eq!(identity(server.worker()), all_of(54321, 54322));
    server.get("/").is(200, "hello\n");
}

#[test]
fn the_loader_runs_as_the_user_and_its_cache_is_that_users() {
    if !is_root() {
        return;
    }
    let nobody = nobody();
    let (folder, app) = folder_of(&nobody);
    let cache = folder.path().join("cache");
    let start = || {
        let cache = cache.to_str().unwrap();
        let args = [&app, "-u", "nobody", "--cache-dir", cache];
        Start::new("serve")
            .args(args)
            .env("RGUNICORN_CACHE_DIR", "")
            .start()
    };
    drop(start());
    let kept: Vec<PathBuf> = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1);
    for path in [&cache, &kept[0]] {
        assert_eq!(fs::metadata(path).unwrap().uid(), nobody.uid.as_raw());
    }
    let server = start();
    server.wait_log(&["compiled before, from the cache"]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn the_loader_has_no_more_rights_than_the_user() {
    if !is_root() {
        return;
    }
    let (folder, app) = folder_of(&nobody());
    // What only root can read.
    let secret = folder.path().join("secret.wasm");
    fs::copy(&app, &secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let start = Start::new("serve").args([secret.to_str().unwrap(), "-u", "nobody"]);
    let ended = start.env("RGUNICORN_CACHE_DIR", "none").run();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains("Permission denied"), "{ended:?}");
}

#[test]
fn a_unix_socket_belongs_to_the_user_and_is_removed_at_the_end() {
    if !is_root() {
        return;
    }
    let nobody = nobody();
    let (folder, app) = folder_of(&nobody);
    let socket = folder.path().join("web.sock");
    let bind = format!("unix:{}", socket.display());
    let mut server = Start::new("serve")
        .args([&app, "-u", "nobody", "-b", &bind])
        .start();
    let owner = fs::metadata(&socket).unwrap();
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    assert_eq!((owner.uid(), owner.gid()), (uid, gid));
    server.get("/").is(200, "hello\n");
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn an_unknown_user_or_group_is_exit_code_5() {
    for (option, line) in [
        ("--user", "rgunicorn: no such user: \"no-such-name\""),
        ("--group", "rgunicorn: no such group: \"no-such-name\""),
    ] {
        let ended = Start::app("hello").args([option, "no-such-name"]).run();
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert_eq!(ended.line(), line);
    }
}

#[test]
fn a_user_without_rights_to_become_another_is_told_so() {
    if !is_root() {
        return;
    }
    let nobody = nobody();
    let group = Group::from_gid(nobody.gid).unwrap().expect("it has a name");
    let (_folder, app) = folder_of(&nobody);
    // Whoever is the user already needs no right.
    let as_nobody = "exec setpriv --reuid=nobody --regid=nogroup --clear-groups \"$0\" \"$@\"";
    let as_nobody = as_nobody.replace("nogroup", &group.name);
    let start = |user: &str| {
        let start = Start::new("serve").args([&app, "--user", user, "--cache-dir", "none"]);
        start.setup(&format!("cd /; {as_nobody}"))
    };
    if Start::new("--version")
        .setup(&format!("cd /; {as_nobody}"))
        .run()
        .code
        != Some(0)
    {
        // The program lies where only root can reach it.
        return;
    }
    start("nobody").start().get("/").is(200, "hello\n");
    let ended = start("root").run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let reason = "cannot become the user or group that it should be: Operation not permitted";
    assert!(ended.stderr.contains(reason), "{ended:?}");
}
