//! What is done to objects that a client has made, again when it got no answer.

use http::Method;
use serde_json::{Value, json};

use crate::story::{Gone, Place, expect, get, post, send};

/// The object of a list that has this text there.
pub(crate) async fn find(
    place: &Place,
    list: &str,
    member: &str,
    text: &str,
) -> Result<Option<Value>, Gone> {
    let all = expect(200, get(place, &format!("{list}?limit=100")).await?);
    let mut all = all["data"].as_array().expect("a list").iter();
    Ok(all.find(|shown| shown[member] == *text).cloned())
}

/// As [`find`]; made, of this text alone, when there is none.
pub(crate) async fn find_or_make(
    place: &Place,
    list: &str,
    member: &str,
    text: &str,
) -> Result<Value, Gone> {
    match find(place, list, member, text).await? {
        Some(made) => Ok(made),
        None => Ok(expect(
            200,
            post(place, list, &json!({member: text})).await?,
        )),
    }
}

/// Deletes something that may be deleted already, without an answer.
pub(crate) async fn delete(place: &Place, path: &str) -> Result<(), Gone> {
    let answer = send(place, Method::DELETE, path, "").await?;
    assert!([200, 404].contains(&answer.status), "{answer}");
    Ok(())
}

/// As [`delete`]; then it is not found.
pub(crate) async fn remove(place: &Place, path: &str) -> Result<(), Gone> {
    delete(place, path).await?;
    expect(404, get(place, path).await?);
    Ok(())
}

/// The last steps of what is left to do, from this one on: archives it and removes it.
pub(crate) async fn archive_and_remove(
    place: &Place,
    path: &str,
    step: &mut usize,
    from: usize,
) -> Result<(), Gone> {
    if *step == from {
        let archive = format!("{path}/archive");
        expect(200, post(place, &archive, &json!({})).await?);
        *step += 1;
    }
    if *step == from + 1 {
        remove(place, path).await?;
        *step += 1;
    }
    Ok(())
}

/// A text of an answer.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
