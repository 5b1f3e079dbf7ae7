//! Where work is done: sandboxes and tools
