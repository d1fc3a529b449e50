//! Defines the settings as arguments of the command line, and reads them back.
//!
//! Invariant: an argument's id is the key of its setting; values are text here, so that a wrong one
//! is told beside the wrong values of the other sources.

use std::path::Path;
use std::sync::Arc;

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::{Error, Origin, Problem};
use super::form::Form;
use super::raw::{Entry, Written};
use super::setting::{Scope, Setting};
use super::table::settings;
use super::words;

/// Id of the argument that names the settings file.
pub const CONFIG: &str = "config";
/// Id of the flag that ends the server after the settings and apps were checked.
pub const CHECK_CONFIG: &str = "check-config";
/// Id of the flag that shows the settings and ends the server.
pub const PRINT_CONFIG: &str = "print-config";

/// Arguments that are about the settings as a whole: id, short option, help.
pub(super) const FLAGS: [(&str, Option<char>, &str); 3] = [
    (
        CONFIG,
        Some('c'),
        "Settings file. Without it ./rgunicorn.toml is read if it is there. The variable \
         RGUNICORN_CONFIG names one too.",
    ),
    (
        CHECK_CONFIG,
        None,
        "Check the settings and the apps, tell everything that is wrong, and serve nothing.",
    ),
    (
        PRINT_CONFIG,
        None,
        "Show every setting and where it was written, as a settings file, and serve nothing. The \
         values of environment variables are shown too.",
    ),
];

/// The arguments that write settings, and `--config`: for every verb that reads a configuration.
#[must_use]
pub fn command_args() -> Vec<Arg> {
    let settings = settings().filter_map(setting_arg);
    flag_args()
        .filter(|arg| arg.get_id() == CONFIG)
        .chain(settings)
        .collect()
}

/// `--check-config` and `--print-config`, for the verb that serves.
#[must_use]
pub fn verb_args() -> Vec<Arg> {
    flag_args().filter(|arg| arg.get_id() != CONFIG).collect()
}

fn flag_args() -> impl Iterator<Item = Arg> {
    FLAGS.iter().map(|(id, short, help)| {
        let arg = Arg::new(*id)
            .long(*id)
            .short(*short)
            .help_heading("Configuration");
        let arg = if *id == CONFIG {
            arg.value_name("FILE").overrides_with(CONFIG)
        } else {
            arg.action(ArgAction::SetTrue)
        };
        with_help(arg, help)
    })
}

fn setting_arg(setting: &'static Setting) -> Option<Arg> {
    let arg = Arg::new(setting.key).value_name(setting.placeholder());
    if matches!(setting.scope, Scope::OnlyApp) {
        return Some(with_help(arg, setting.help));
    }
    let arg = arg
        .long(setting.flag?)
        .short(setting.short)
        .visible_aliases(setting.aliases.iter().copied())
        .aliases(setting.hidden_aliases.iter().copied())
        .help_heading(setting.group.title());
    let arg = if setting.form().is_list() {
        arg.action(ArgAction::Append)
    } else {
        // The last one counts, so that a script can add to the arguments it was given.
        arg.action(ArgAction::Set).overrides_with(setting.key)
    };
    let arg = if setting.form() == Form::Flag {
        // Alone it means yes. A value must be joined to it, or the app's path would be one.
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    };
    let default = setting.default;
    let help = match default {
        "" => setting.help.to_owned(),
        default => format!("{} [default: {default}]", setting.help),
    };
    let short = match default {
        "" => setting.summary().to_owned(),
        default => format!("{} [default: {default}]", setting.summary()),
    };
    Some(arg.help(short).long_help(help))
}

fn with_help(arg: Arg, help: &'static str) -> Arg {
    let summary = help.split_once(". ").map_or(help, |(first, _)| first);
    arg.help(summary.trim_end_matches('.')).long_help(help)
}

/// What the arguments wrote, in the order of the table; `base` is the folder of relative paths.
pub(super) fn entries(matches: &ArgMatches, origin: &Origin, base: &Arc<Path>) -> Vec<Entry> {
    let entry = |setting: &'static Setting| {
        let texts = matches.try_get_many::<String>(setting.key).ok().flatten()?;
        let written = |text: &String| Written {
            text: text.clone(),
            origin: origin.clone(),
        };
        Some(Entry {
            setting,
            spelling: spelling(setting),
            values: texts.map(written).collect(),
            origin: origin.clone(),
            base: Arc::clone(base),
        })
    };
    settings().filter_map(entry).collect()
}

/// The setting as help writes it.
fn spelling(setting: &Setting) -> String {
    setting.flag.map_or_else(
        || setting.placeholder().to_owned(),
        |flag| format!("--{flag}"),
    )
}

/// The settings file that the arguments name.
pub(super) fn config_file(matches: &ArgMatches) -> Option<&str> {
    matches
        .try_get_one::<String>(CONFIG)
        .ok()
        .flatten()
        .map(String::as_str)
}

/// Reads the text of `RGUNICORN_CMD_ARGS` as arguments.
pub(super) fn parse_text(text: &str) -> Result<ArgMatches, Error> {
    let words = words::split(text);
    let words = words.map_err(|problem| Error::new(Origin::CommandArgs, "", problem))?;
    parse_words(words, Origin::CommandArgs)
}

/// Reads arguments that come without the program's name and without a verb.
pub(super) fn parse_words<T>(
    words: impl IntoIterator<Item = T>,
    origin: Origin,
) -> Result<ArgMatches, Error>
where
    T: Into<OsString> + Clone,
{
    Command::new("rgunicorn")
        .no_binary_name(true)
        .disable_help_flag(true)
        .args(command_args())
        .try_get_matches_from(words)
        .map_err(|error| {
            let problem = Problem::Syntax(first_line(&error.render().to_string()));
            Error::new(origin, "", problem)
        })
}

/// The sentence of a usage error, without the usage below it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("serve")
            .no_binary_name(true)
            .args(command_args())
            .args(verb_args())
    }

    fn texts(arguments: &[&str]) -> Vec<(String, Vec<String>)> {
        let matches = command().try_get_matches_from(arguments).unwrap();
        let base: Arc<Path> = Path::new("/").into();
        let entries = entries(&matches, &Origin::CommandLine, &base).into_iter();
        let text = |written: Written| written.text;
        entries
            .map(|e| (e.spelling, e.values.into_iter().map(text).collect()))
            .collect()
    }

    #[test]
    fn the_arguments_are_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn arguments_become_entries() {
        let expect = |pairs: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
            let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
            pairs
                .iter()
                .map(|(key, texts)| (key.to_string(), owned(texts)))
                .collect()
        };
        assert_eq!(texts(&[]), expect(&[]));
        assert_eq!(
            texts(&[
                "a.wasm",
                "-b",
                ":1",
                "--addr=:2",
                "--bind",
                ":3",
                "-w2",
                "-w",
                "3"
            ]),
            expect(&[
                ("APP", &["a.wasm"]),
                ("--bind", &[":1", ":2", ":3"]),
                ("--workers", &["3"])
            ])
        );
        assert_eq!(
            texts(&[
                "--limit-request-field_size",
                "9",
                "--limit-request-body",
                "1KB",
                "--pidfile",
                "p",
                "--log-file=-",
                "--proc-name",
                "x",
                "-t",
                "5"
            ]),
            expect(&[
                ("--timeout", &["5"]),
                ("--request-body-limit", &["1KB"]),
                ("--limit-request-field-size", &["9"]),
                ("--error-logfile", &["-"]),
                ("--pid", &["p"]),
                ("--name", &["x"]),
            ])
        );
    }

    #[test]
    fn the_command_line_contract_parses() {
        let arguments = "app.wasm -c f -b :1 -w 2 --worker-connections 3 -t 4 --graceful-timeout 5 \
                         --keep-alive 6 --backlog 7 --memory-limit 8 -e A=1 --dir /a::/b:ro \
                         --outbound * --log-level debug --check-config --print-config \
                         --max-requests 9 --max-requests-jitter 1 -p pid --control-socket c -u www \
                         -g www -D --reload";
        let matches = command()
            .try_get_matches_from(arguments.split_whitespace())
            .unwrap();
        assert!(matches.get_flag(CHECK_CONFIG) && matches.get_flag(PRINT_CONFIG));
        assert_eq!(config_file(&matches), Some("f"));
    }

    #[test]
    fn a_wrong_argument_in_the_variable_is_one_line() {
        let error = parse_text("--wrokers 3").unwrap_err().to_string();
        assert_eq!(
            error,
            "RGUNICORN_CMD_ARGS: unexpected argument '--wrokers' found"
        );
        let error = parse_text("-w '3").unwrap_err().to_string();
        assert_eq!(error, "RGUNICORN_CMD_ARGS: a quote has no end");
        assert!(parse_text("--help").is_err() && parse_text("--check-config").is_err());
    }

    #[test]
    fn short_help_is_one_sentence_with_the_default() {
        let help = command().render_help().to_string();
        for setting in settings() {
            let words: Vec<_> = setting.summary().split_whitespace().take(4).collect();
            let shown = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                shown.contains(&words.join(" ")) || setting.flag.is_none(),
                "{}",
                setting.key
            );
        }
        assert!(help.contains("[default: 127.0.0.1:8000]") && !help.contains("keepalive"));
        assert!(help.contains("-D, --daemon[=<true|false>]"), "{help}");
    }
}
