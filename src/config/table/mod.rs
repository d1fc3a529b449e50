//! Defines every setting, once: this table, in one file for each part of it.
//!
//! Invariant: whatever knows settings (the command line, the environment, the settings file, help,
//! docs/configuration.md, `--print-config`, what a reload can change) walks [`settings`]; a setting
//! is added or changed here and nowhere else, but for the field that it fills.

mod apps;
mod http;
mod logging;
mod process;
mod proxies;
mod server;
mod tls;
mod workers;

use std::time::Duration;

use super::setting::Setting;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Every setting, in the order of help and documentation.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    [
        apps::SETTINGS,
        workers::SETTINGS,
        http::SETTINGS,
        tls::SETTINGS,
        proxies::SETTINGS,
        server::SETTINGS,
        logging::SETTINGS,
        process::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::setting::{Group, Scope};

    #[test]
    fn groups_are_in_the_order_of_their_headings() {
        let mut order: Vec<Group> = settings().map(|setting| setting.group).collect();
        order.dedup();
        assert_eq!(order, Group::ALL);
    }

    #[test]
    fn no_two_settings_share_a_name() {
        let mut keys = HashSet::new();
        let mut options = HashSet::new();
        let mut variables = HashSet::new();
        for setting in settings() {
            assert!(keys.insert(setting.key), "{}", setting.key);
            let aliases = setting.aliases.iter().chain(setting.hidden_aliases);
            let long = setting.flag.into_iter().chain(aliases.copied());
            let short = setting.short.map(String::from);
            for option in long.map(str::to_owned).chain(short) {
                assert!(options.insert(option), "{}", setting.key);
            }
            let shared = setting.variables.iter().map(|v| v.name.to_owned());
            for variable in shared.chain(setting.variable()) {
                assert!(variables.insert(variable), "{}", setting.key);
            }
        }
    }

    #[test]
    fn a_process_is_made_at_a_start_and_apps_at_every_reload() {
        for setting in settings() {
            let key = setting.key;
            assert!(setting.group != Group::Process || setting.at_start, "{key}");
            let of_server = matches!(setting.scope, Scope::Server(_));
            assert!(of_server || !setting.at_start, "{key}");
        }
    }
}
