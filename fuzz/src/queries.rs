//! URLs of requests, names and paths of files, and frames of streams (security INP-4, INP-5).

use manyhands_server::fuzzing;

use crate::{is_one_line, sse, text};

/// What a query is read as can be written and is read as the same.
pub(crate) fn query(bytes: &[u8]) {
    let Some(Ok(pairs)) = text(bytes).map(fuzzing::query) else {
        return;
    };
    let written = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&pairs)
        .finish();
    assert_eq!(fuzzing::query(&written), Ok(pairs));
}

/// A cursor that is taken stands for one place.
pub(crate) fn cursor(bytes: &[u8]) {
    let cursor = text(bytes).and_then(fuzzing::cursor);
    if let Some(cursor) = cursor {
        assert_eq!(fuzzing::cursor(&cursor), Some(cursor.clone()));
    }
}

/// A path that is taken is safe segments below the folder, and means itself.
pub(crate) fn mount_path(bytes: &[u8]) {
    let Some(path) = text(bytes).and_then(fuzzing::mount_path) else {
        return;
    };
    let below = path
        .strip_prefix("/mnt/session/uploads/")
        .expect("below the folder of uploads");
    let safe = |segment: &str| !matches!(segment, "" | "." | "..") && segment.len() <= 255;
    assert!(below.split('/').all(safe), "{path}");
    assert!(is_one_line(&path) && path.len() <= 1024, "{path}");
    assert_eq!(fuzzing::mount_path(&path), Some(path.clone()));
}

/// Names are one segment, and no name breaks out of its header.
pub(crate) fn file_name(bytes: &[u8]) {
    let Some((sent, kind)) = text(bytes).and_then(|text| text.rsplit_once('\n')) else {
        return;
    };
    let names = [
        fuzzing::upload_name(sent, kind),
        Some(fuzzing::output_name(sent)),
    ];
    for name in names.iter().flatten() {
        assert!((1..=255).contains(&name.chars().count()), "{name}");
        assert!(is_one_line(name) && !name.contains(['/', '\\']), "{name}");
        assert!(!matches!(name.as_str(), "." | ".."));
        let mime_type = fuzzing::mime_type(name, kind);
        assert!(
            http::HeaderValue::from_str(&mime_type).is_ok(),
            "{mime_type}"
        );
        assert!(mime_type.is_ascii() && !mime_type.contains([' ', ';', '"']));
    }
    let header = fuzzing::disposition(sent);
    assert!(http::HeaderValue::from_str(&header).is_ok(), "{header}");
    // The quotation marks are those around the name, and what is behind them is the name itself.
    assert_eq!(header.matches('"').count(), 2, "{header}");
    let (_, encoded) = header.rsplit_once("UTF-8''").expect("the name as it is");
    let pair = format!("name={encoded}");
    let (_, name) = url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .expect("a name");
    assert_eq!(name, sent);
}

/// Whatever an agent says is the data of one frame (security INP-5).
pub(crate) fn frame(bytes: &[u8]) {
    let said = String::from_utf8_lossy(bytes);
    let stream = fuzzing::frame(&said);
    let events = sse::read(stream.as_bytes()).expect("text");
    let [event] = events.as_slice() else {
        panic!("{} frames: {stream}", events.len());
    };
    assert_eq!(event.name, "agent.message");
    assert_eq!(event.id.as_deref(), Some("1"));
    let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
    assert_eq!(data["type"], "agent.message");
    assert_eq!(data["content"][0]["text"], *said);
}
