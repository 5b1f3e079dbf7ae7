//! What is remembered: the session log, resources and leases
