//! The gate out: which hosts the server and its sandboxes may reach
