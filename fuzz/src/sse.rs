//! A second reader of server-sent events, as simple as it can be: the streams are compared with it.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its `event`, or nothing.
    pub(crate) name: String,
    /// Its `id`.
    pub(crate) id: Option<String>,
    /// Its `data`, lines joined.
    pub(crate) data: String,
}

/// The events with data of a whole stream, by the rules of the HTML standard; `None` when it is no text.
pub(crate) fn read(stream: &[u8]) -> Option<Vec<Event>> {
    let text = std::str::from_utf8(stream).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut event, mut data) = (Event::default(), Vec::new());
    // What is behind the last line end is no line.
    for line in lines
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
    {
        if line.is_empty() {
            event.data = data.join("\n");
            if !data.is_empty() {
                events.push(std::mem::take(&mut event));
            }
            (event, data) = (Event::default(), Vec::new());
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "event" => event.name = value.to_owned(),
            "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(events)
}
