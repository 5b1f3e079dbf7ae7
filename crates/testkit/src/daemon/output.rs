//! What the child prints, kept for whoever asks why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use crate::gate::PATIENCE;

/// What a child prints, line by line.
#[derive(Clone, Debug)]
pub(super) struct Output {
    text: Arc<Mutex<String>>,
    grew: watch::Sender<usize>,
    open: watch::Sender<usize>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            text: Arc::default(),
            grew: watch::Sender::new(0),
            open: watch::Sender::new(0),
        }
    }
}

impl Output {
    pub(super) fn follow(&self, pipe: Option<impl AsyncRead + Unpin + Send + 'static>) {
        let mut lines = BufReader::new(pipe.expect("a piped stream"));
        let this = self.clone();
        this.open.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            let mut line = vec![];
            while matches!(lines.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
                this.lock().push_str(&String::from_utf8_lossy(&line));
                this.grew.send_modify(|length| *length += line.len());
                line.clear();
            }
            this.open.send_modify(|open| *open -= 1);
        });
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn text(&self) -> String {
        self.lock().clone()
    }

    pub(super) async fn closed(&self) {
        let mut open = self.open.subscribe();
        // A grandchild may keep a pipe open; what is there by then is enough.
        let closed = open.wait_for(|open| *open == 0);
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }

    pub(super) async fn printed(&self, wanted: &str) {
        let mut grew = self.grew.subscribe();
        let there = grew.wait_for(|_| self.lock().contains(wanted));
        let there = tokio::time::timeout(PATIENCE, there).await.is_ok();
        assert!(
            there,
            "{wanted:?} was not printed; this was:\n{}",
            self.text()
        );
    }

    /// The base URL in the line that says where it listens; waits for that line.
    pub(super) async fn url(&self) -> String {
        let mut grew = self.grew.subscribe();
        let _ = grew.wait_for(|_| listening(&self.lock()).is_some()).await;
        listening(&self.lock()).unwrap_or_default()
    }
}

/// Finds `listening on http://ADDR:PORT` in complete lines.
fn listening(output: &str) -> Option<String> {
    let lines = output
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut urls = lines.filter_map(|line| {
        let (_, rest) = line.split_once("listening on http://")?;
        let end = rest.find(|c: char| c.is_whitespace() || c == '\x1b' || c == '"' || c == ',');
        let address = rest[..end?].trim_end_matches(['/', '.']);
        Some(format!("http://{address}"))
    });
    urls.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_it_listens() {
        let check = |output: &str, expected: Option<&str>| {
            assert_eq!(listening(output).as_deref(), expected, "{output:?}");
        };
        check("", None);
        check("listening on http://127.0.0.1:80", None);
        check(
            "listening on http://127.0.0.1:80\n",
            Some("http://127.0.0.1:80"),
        );
        check(
            "hello\nINFO listening on http://127.0.0.1:81/ key=x\n",
            Some("http://127.0.0.1:81"),
        );
        check(
            "\x1b[2mlistening on http://[::1]:82\x1b[0m\n",
            Some("http://[::1]:82"),
        );
    }
}
