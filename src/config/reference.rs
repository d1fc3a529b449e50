//! Defines the reference of all settings: docs/configuration.md.
//!
//! Invariant: what it says of a setting comes from the settings table.

use super::command::FLAGS;
use super::setting::{Group, Scope, Setting};
use super::table::settings;

/// What holds for all settings.
const INTRODUCTION: &str = include_str!("introduction.md");

/// The reference of all settings, as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str(&index());
    for group in Group::ALL {
        text.push_str(&format!("\n## {}\n", group.title()));
        let settings = settings().filter(|setting| setting.group == group);
        settings.for_each(|setting| text.push_str(&section(setting)));
    }
    text.push_str("\n## Options that are no settings\n");
    for (id, short, help) in FLAGS {
        text.push_str(&format!(
            "\n### {id}\n\n{}\n\n{}\n",
            flags(id, short, &[]),
            markdown(help)
        ));
    }
    text
}

/// One row for each setting.
fn index() -> String {
    let mut text = String::from("\n## All settings\n\n| key | option | default | of |\n");
    text.push_str("| --- | --- | --- | --- |\n");
    for setting in settings() {
        let key = setting.key;
        let option = option(setting).unwrap_or_else(|| "-".into());
        let (default, scope) = (default(setting), scope(setting));
        text.push_str(&format!(
            "| [{key}](#{key}) | {option} | {default} | {scope} |\n"
        ));
    }
    text
}

fn section(setting: &Setting) -> String {
    let mut text = format!("\n### {}\n\n{}\n\n", setting.key, markdown(setting.help));
    text.push_str(&format!("* value: {}\n", setting.values()));
    text.push_str(&format!("* default: {}\n", default(setting)));
    if let Some(option) = option(setting) {
        text.push_str(&format!("* option: {option}\n"));
    }
    let own = setting.variable().into_iter();
    let names: Vec<_> = own
        .chain(
            setting
                .variables
                .iter()
                .map(|variable| variable.name.to_owned()),
        )
        .map(|name| format!("`{name}`"))
        .collect();
    if !names.is_empty() {
        text.push_str(&format!("* environment: {}\n", names.join(", ")));
    }
    text.push_str(&format!("* of: {}\n", scope(setting)));
    if setting.at_start {
        text.push_str("* a change takes effect: at the next start, not by a reload\n");
    }
    text
}

/// Help text is Markdown but for brackets, which would be links, and stars.
fn markdown(help: &str) -> String {
    help.replace("[apps.NAME]", "`[apps.NAME]`")
        .replace("[V6]", "\\[V6]")
}

fn option(setting: &Setting) -> Option<String> {
    match setting.scope {
        Scope::OnlyApp => Some("`APP`".into()),
        _ => setting
            .flag
            .map(|flag| flags(flag, setting.short, setting.aliases)),
    }
}

fn flags(flag: &str, short: Option<char>, aliases: &[&str]) -> String {
    let short = short.map(|short| format!("`-{short}`"));
    let long = [flag]
        .into_iter()
        .chain(aliases.iter().copied())
        .map(|name| format!("`--{name}`"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

fn default(setting: &Setting) -> String {
    match setting.default {
        "" => "none".into(),
        default => format!("`{default}`"),
    }
}

fn scope(setting: &Setting) -> &'static str {
    match setting.scope {
        Scope::OnlyApp | Scope::Server(_) => "server",
        Scope::Both(_) => "server, app",
        Scope::App(_) => "app",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Set `RGUNICORN_BLESS=1` to write the file.
    #[test]
    fn the_reference_on_disk_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let current = reference_markdown();
        if std::env::var_os("RGUNICORN_BLESS").is_some() {
            std::fs::write(&file, &current).unwrap();
        }
        let on_disk = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            on_disk == current,
            "run the tests once with RGUNICORN_BLESS=1"
        );
    }

    #[test]
    fn every_setting_has_a_section() {
        let text = reference_markdown();
        for setting in settings() {
            assert_eq!(text.matches(&format!("\n### {}\n", setting.key)).count(), 1);
        }
    }
}
