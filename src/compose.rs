//! Defines temp.
use crate::arbiter::{exit::ExitCode, role::Child};
use crate::config::{BindAddress, Config};
use crate::sys::socket::{BindTo, Listener};
use crate::sys::channel::{Channel, Recv};
use crate::scoreboard::Scoreboard;
use std::sync::Arc;
#[derive(Debug, thiserror::Error)]
pub enum StartError { #[error("x")] X }
impl StartError { pub fn exit_code(&self) -> ExitCode { ExitCode::Failure } }
pub fn serve(config: Config, ready: impl Fn(&str) + 'static) -> Result<ExitCode, StartError> {
    let BindAddress::Tcp{host,port} = &config.bind[0] else { panic!() };
    let l = Listener::bind(&BindTo::Tcp(format!("{host}:{port}").parse().unwrap()), 2048).unwrap();
    let sb = Arc::new(Scoreboard::new(4).unwrap());
    let (a,b) = Channel::pair().unwrap();
    let child = Child{slot:0,generation:1,channel:b,listeners:vec![],handed:vec![],scoreboard:sb.clone()};
    let config2 = config.clone();
    crate::sys::process::fork(move || crate::loader::main(child,&config2)).unwrap();
    let mut handed = vec![]; let mut buf=[0;4096];
    loop { match a.recv(&mut buf).unwrap() { Recv::Empty => std::thread::sleep(std::time::Duration::from_millis(5)), Recv::Eof => break, Recv::Frame{len,fds} => { let m = crate::protocol::message::FromChild::decode(&buf[..len]); eprintln!("{m:?}"); if fds.is_empty() {break} handed.extend(fds); } } }
    let (a,b) = Channel::pair().unwrap();
    ready(&l.local_address().to_string());
    let child = Child{slot:0,generation:1,channel:b,listeners:vec![l],handed,scoreboard:sb};
    let r = crate::worker::main(child,&config);
    while let Ok(Recv::Frame{len,..}) = a.recv(&mut buf) { eprintln!("{:?}", crate::protocol::message::FromChild::decode(&buf[..len])); }
    eprintln!("worker ended {r}");
    Ok(ExitCode::Ok)
}
