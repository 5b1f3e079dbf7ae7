//! The client of MCP servers (runtime §17): a server is one more hand.
//!
//! Who calls knows [`Connector`] and [`Connection`]; who has the credentials implements [`Authorization`]. Tokens are asked
//! for request by request, go to the origin of the server and nowhere else (security CRED-7, CRED-9), and are taken out of
//! whatever comes back. All requests pass the server's own guarded client (security NET-9). This room knows neither the
//! database nor the brain, and keeps nothing that a new connection could not find out again.

mod answer;
mod client;
mod clients;
mod content;
mod contract;
mod door;
mod events;
mod failure;
mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod link;
mod listing;
mod mirror;
mod probe;
#[cfg(feature = "testing")]
pub mod scripted;
mod scrub;
mod settings;
mod streamable;
mod two_way;
mod wire;

pub use clients::Clients;
pub use contract::{Authorization, Caller, Connection, Connector, Denied, Server, Token};
pub use contract::{Output, Tool};
pub use failure::Failure;
pub use probe::{ErrorAnswer, Stumble, probe};
pub use settings::Settings;
