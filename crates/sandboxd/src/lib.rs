//! The supervisor inside every sandbox: runs the tools, keeps the journal of executions
