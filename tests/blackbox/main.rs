//! Tests of the real program from the outside: processes, signals, sockets, bytes and the log, and
//! nothing of what is inside.
//!
//! Every server has a free port and a process group of its own, and none of its processes outlives
//! its test. Waiting is always for something that the server does, with a deadline that only a
//! failure reaches.

mod harness;

mod accept;
mod accept_failures;
mod access_log;
mod access_log_clients;
mod access_log_protocols;
mod access_log_sinks;
mod bodiless;
mod boot;
mod configuration;
mod connections;
mod container;
mod control;
mod control_clients;
mod control_orders;
mod daemon;
mod embed;
mod failures;
mod h2;
mod h2_abuse;
mod h2_flow;
mod h2_lifetime;
mod heartbeat;
mod http;
mod identity;
mod limits;
mod log;
mod outbound;
mod process;
mod proxy;
mod reload;
mod reload_failures;
mod retirement;
mod signals;
mod slow;
mod systemd;
mod tenants;
mod tls;
mod tls_lifetime;
mod tls_streams;
mod upgrade;
mod upgrade_failures;
mod watch;
mod worlds;
