//! Defines the settings of the server's processes as the system sees them.
//!
//! Invariant: a process is made once, so all of them take effect at a start and never by a reload.

use crate::config::kind::Kind;
use crate::config::setting::{Group, Scope, Setting, setting};

/// Group Process.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        flag: Some("pid"),
        short: Some('p'),
        aliases: &["pidfile"],
        at_start: true,
        ..setting(
            Group::Process,
            "pidfile",
            "none",
            Scope::Server(Kind::PathOr {
                at: |config| &mut config.pidfile,
                none: "none",
                placeholder: "FILE",
            }),
            "File that holds the process id of the server. One that a dead process has left is \
             replaced; one of a process that lives refuses the start. During an upgrade the new \
             server's has `.2` at its end, as in gunicorn.",
        )
    },
    Setting {
        short: Some('D'),
        at_start: true,
        ..setting(
            Group::Process,
            "daemon",
            "false",
            Scope::Server(Kind::Flag {
                at: |config| &mut config.daemon,
            }),
            "Run in the background, detached from the terminal. The standard streams lead to \
             /dev/null then, so error-logfile should name a file.",
        )
    },
    Setting {
        short: Some('u'),
        at_start: true,
        ..setting(
            Group::Process,
            "user",
            "none",
            Scope::Server(Kind::Account {
                at: |config| &mut config.user,
                placeholder: "USER",
            }),
            "User that the server's children run as, a name or a number. Children are the workers, \
             and the loader that compiles. Only root can start a server with another user than \
             its own. `none`: the user that starts the server.",
        )
    },
    Setting {
        short: Some('g'),
        at_start: true,
        ..setting(
            Group::Process,
            "group",
            "none",
            Scope::Server(Kind::Account {
                at: |config| &mut config.group,
                placeholder: "GROUP",
            }),
            "Group that the server's children run as, a name or a number. `none`: the group \
             that `user` has in the system's list of users, and without `user` the group that \
             starts the server.",
        )
    },
    Setting {
        short: Some('m'),
        at_start: true,
        ..setting(
            Group::Process,
            "umask",
            "none",
            Scope::Server(Kind::Mode {
                at: |config| &mut config.umask,
            }),
            "Permissions that files and Unix sockets of the server do not get. It is an octal \
             number as in umask(1), such as 022 or 0o022. `none` keeps the one that the server \
             inherits; gunicorn has 0, which leaves files open to everyone.",
        )
    },
    Setting {
        at_start: true,
        ..setting(
            Group::Process,
            "chdir",
            "none",
            Scope::Server(Kind::PathOr {
                at: |config| &mut config.chdir,
                none: "none",
                placeholder: "FOLDER",
            }),
            "Folder that the server changes to before it opens anything. Relative paths do not \
             start there: those of the settings file start at the file's folder, all others at \
             the folder in which the command was given. `none`: that folder is kept.",
        )
    },
    Setting {
        flag: Some("name"),
        short: Some('n'),
        aliases: &["proc-name"],
        at_start: true,
        ..setting(
            Group::Process,
            "proc-name",
            "rgunicorn",
            Scope::Server(Kind::Title {
                at: |config| &mut config.proc_name,
            }),
            "How the titles of the server's processes begin. ps(1) shows them, with the role and \
             the state of each process.",
        )
    },
    Setting {
        at_start: true,
        ..setting(
            Group::Process,
            "control-socket",
            "none",
            Scope::Server(Kind::Socket {
                at: |config| &mut config.control_socket,
            }),
            "Unix socket on which `rgunicorn ctl` talks to the server. Only the server's own user \
             can connect to it. `none`: there is no such socket.",
        )
    },
];
