//! The front door: HTTP routes, streams, configuration, and the wiring of the parts
