//! `grep`: lines by content, on ripgrep's engine (runtime TL-18).

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use grep_regex::RegexMatcher;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkMatch};
use ignore::WalkBuilder;

use super::{Grep, Place, Stop, Stopped, file, shown};

/// The most output, in bytes.
const OUTPUT: usize = 100 * 1024;
/// The most characters of one line.
const LINE: usize = 2000;
/// The longest search.
const TIME: Duration = Duration::from_secs(30);
/// The most memory one file's longest line may take, in bytes.
const HEAP: usize = 16 * 1024 * 1024;

pub(super) fn run(input: &Grep, place: &Place, stop: &Stop) -> Result<String, String> {
    let matcher = RegexMatcher::new_line_matcher(&input.pattern)
        .map_err(|error| format!("grep: invalid regex: {error}"))?;
    let root = place.path_or_root(input.path.as_deref());
    let given = input.path.as_deref().unwrap_or(".");
    let meta = std::fs::metadata(&root).map_err(|error| file::error("grep", given, &error))?;
    let mut search = Search {
        matcher,
        searcher: SearcherBuilder::new()
            .line_number(true)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(HEAP))
            .build(),
        bounds: Bounds {
            stop,
            until: Instant::now() + TIME,
        },
        found: String::new(),
    };
    let ended = if meta.is_dir() {
        search.tree(&root)
    } else {
        search.file(&root, given)
    };
    match ended {
        Ok(()) if search.found.is_empty() => Ok("no matches".to_owned()),
        Ok(()) => Ok(search.found.trim_end_matches('\n').to_owned()),
        Err(Ended::Full) => Ok(format!(
            "{}[output truncated at {OUTPUT} bytes]",
            search.found
        )),
        Err(Ended::Slow) => Err(format!("grep: timed out after {}s", TIME.as_secs())),
        Err(Ended::Stopped(stopped)) => Err(stopped.text("grep")),
        Err(Ended::Failed(text)) => Err(text),
    }
}

struct Search<'a> {
    matcher: RegexMatcher,
    searcher: Searcher,
    bounds: Bounds<'a>,
    found: String,
}

/// Why a search ends before its natural end.
enum Ended {
    Full,
    Slow,
    Stopped(Stopped),
    Failed(String),
}

#[derive(Clone, Copy)]
struct Bounds<'a> {
    stop: &'a Stop,
    until: Instant,
}

impl Bounds<'_> {
    fn check(&self) -> Result<(), Ended> {
        self.stop.check().map_err(Ended::Stopped)?;
        if Instant::now() < self.until {
            Ok(())
        } else {
            Err(Ended::Slow)
        }
    }
}

impl Search<'_> {
    /// Every regular file below a directory that git does not ignore, by name; links are not followed.
    fn tree(&mut self, root: &Path) -> Result<(), Ended> {
        let walk = WalkBuilder::new(root)
            .hidden(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .sort_by_file_name(Ord::cmp)
            .build();
        for entry in walk.flatten() {
            self.bounds.check()?;
            if entry.file_type().is_some_and(|kind| kind.is_file()) {
                // One file that cannot be read does not end the search of the others.
                match self.open_and_search(entry.path()) {
                    Ok(()) | Err(Ended::Failed(_)) => {}
                    Err(ended) => return Err(ended),
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, given: &str) -> Result<(), Ended> {
        self.open_and_search(path).map_err(|ended| match ended {
            Ended::Failed(reason) => Ended::Failed(format!("grep: {given}: {reason}")),
            other => other,
        })
    }

    fn open_and_search(&mut self, path: &Path) -> Result<(), Ended> {
        let (file, _) =
            file::open_regular(path).map_err(|error| Ended::Failed(error.to_string()))?;
        let mut lines = Lines {
            path: shown(path).into_owned(),
            found: &mut self.found,
            full: false,
        };
        let reader = Bounded {
            file,
            bounds: self.bounds,
        };
        let searched = self
            .searcher
            .search_reader(&self.matcher, reader, &mut lines);
        if lines.full {
            return Err(Ended::Full);
        }
        // The reader refuses to go on when a bound is reached: ask again which.
        self.bounds.check()?;
        searched.map_err(|error| Ended::Failed(error.to_string()))
    }
}

/// A file that can be read for as long as the bounds allow.
struct Bounded<'a> {
    file: File,
    bounds: Bounds<'a>,
}

impl io::Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bounds
            .check()
            .map_err(|_| io::Error::other("stopped"))?;
        self.file.read(buffer)
    }
}

/// Takes matching lines as `file:line:text`.
struct Lines<'a> {
    path: String,
    found: &'a mut String,
    full: bool,
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, matched: &SinkMatch<'_>) -> io::Result<bool> {
        let text = String::from_utf8_lossy(matched.bytes());
        let text: String = text
            .trim_end_matches(['\n', '\r'])
            .chars()
            .take(LINE)
            .collect();
        let line = format!(
            "{}:{}:{text}\n",
            self.path,
            matched.line_number().unwrap_or(0)
        );
        if self.found.len() + line.len() > OUTPUT {
            self.full = true;
            return Ok(false);
        }
        self.found.push_str(&line);
        Ok(true)
    }
}
