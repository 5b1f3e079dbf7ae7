//! For tests only: the scripted model over HTTP, TestApp, the test clock
