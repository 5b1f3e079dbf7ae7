//! The proxy of sandboxes, as a client at its door sees it.

mod attempts;
mod bed;
mod campaign;
mod client;
mod credentials;
mod doors;
mod legitimate;
mod origin;
mod spellings;
