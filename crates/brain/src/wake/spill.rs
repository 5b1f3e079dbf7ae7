//! Results that no model can take as they are: a long text goes to a file of the sandbox, an image that no model API takes
//! is named (runtime TL-3, MC-9).

use manyhands_hands::{Call, toolset};
use manyhands_protocol::content::{ContentBlock, Source};

use super::{Stop, Wake};
use crate::context;
use crate::tools::{self, Done, Given, Verdict};

/// Characters of a result beyond which the whole goes to a file (runtime TL-3).
const MOST: usize = 100_000;

/// Characters that are shown of such a result.
const PREVIEW: usize = 20_000;

/// Bytes of an image or a document in base64: what a model API takes of an image.
const LONGEST: usize = 5 << 20;

/// Bytes of all images and documents of a result, in base64.
const TOGETHER: usize = 16 << 20;

/// Images and documents of a result.
const COUNT: usize = 20;

/// Media types that model APIs take.
const SHOWN: [&str; 5] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "application/pdf",
];

impl Wake {
    /// Makes a result one that a model can take. Of a longer text the whole goes to a file of the sandbox, where the agent
    /// can read it, and the result is its beginning and the file's name (runtime TL-3).
    pub(super) async fn within_limits(&mut self, done: &mut Done) -> Result<(), Stop> {
        let Verdict::Given(given) = &mut done.verdict else {
            return Ok(());
        };
        name_unshown(&mut given.content);
        let Some(whole) = too_long(&given.content) else {
            return Ok(());
        };
        let kept = match self.keep(done, &whole).await? {
            Some(path) => format!("The whole output is in {path}."),
            None => "The rest is not kept.".to_owned(),
        };
        if let Verdict::Given(given) = &mut done.verdict {
            shorten(given, &whole, &kept);
        }
        Ok(())
    }

    /// Writes a text to a file of the sandbox; `None` when the agent could not read it there, or there is no sandbox.
    async fn keep(&mut self, done: &Done, text: &str) -> Result<Option<String>, Stop> {
        if !context::has_sandbox(&self.agent().definition) {
            return Ok(None);
        }
        if self.sandbox.is_none() {
            match self.provision().await? {
                Some(Ok(sandbox)) => self.sandbox = Some(sandbox),
                Some(Err(_)) | None => return Ok(None),
            }
        }
        let Some(sandbox) = self.sandbox.clone() else {
            return Ok(None);
        };
        let path = format!("/tmp/tool-output/{}-{}.txt", done.name, done.id);
        let input = serde_json::json!({"file_path": path, "content": text});
        let written = tools::execute(
            &*sandbox,
            Call {
                call_id: done.id.as_str().to_owned(),
                epoch: self.lease.epoch,
                name: "write".to_owned(),
                deadline: toolset::deadline("write", &input),
                input,
            },
        )
        .await;
        match written.verdict {
            Verdict::Given(given) if !given.is_error => Ok(Some(path)),
            Verdict::Given(_) => Ok(None),
            Verdict::Lost(_) => {
                self.sandbox = None;
                Ok(None)
            }
            Verdict::Stale => Err(Stop::Lost),
        }
    }
}

/// The text of a result, its blocks in lines of their own, when it is longer than what is shown of one.
fn too_long(content: &[ContentBlock]) -> Option<String> {
    let texts: Vec<&str> = content.iter().filter_map(text).collect();
    let whole = texts.join("\n");
    (whole.chars().nth(MOST).is_some()).then_some(whole)
}

fn text(block: &ContentBlock) -> Option<&str> {
    match block {
        ContentBlock::Text { text } => Some(text),
        _ => None,
    }
}

/// A preview of the whole in the place of its blocks; what is no text stays.
fn shorten(given: &mut Given, whole: &str, kept: &str) {
    let shown = whole
        .char_indices()
        .nth(PREVIEW)
        .map_or(whole, |(end, _)| &whole[..end]);
    let characters = whole.chars().count();
    let note =
        format!("[output truncated: {PREVIEW} of {characters} characters are shown. {kept}]");
    given.content.retain(|block| text(block).is_none());
    let preview = ContentBlock::text(format!("{shown}\n\n{note}"));
    given.content.insert(0, preview);
}

/// Puts words in the place of images and documents that no model API takes, or that are too many.
fn name_unshown(content: &mut [ContentBlock]) {
    let (mut count, mut bytes) = (0, 0);
    for block in content {
        let (ContentBlock::Image { source } | ContentBlock::Document { source, .. }) = &*block
        else {
            continue;
        };
        let Source::Base64 { data, media_type } = source else {
            continue;
        };
        let shown = SHOWN.contains(&&**media_type)
            && data.len() <= LONGEST
            && count < COUNT
            && bytes + data.len() <= TOGETHER;
        if shown {
            count += 1;
            bytes += data.len();
            continue;
        }
        let size = data.len() / 4 * 3;
        *block = ContentBlock::text(format!(
            "[{media_type} of about {size} bytes, which cannot be shown]"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(media_type: &str, bytes: usize) -> ContentBlock {
        ContentBlock::Image {
            source: Source::Base64 {
                data: "A".repeat(bytes),
                media_type: media_type.to_owned(),
            },
        }
    }

    /// runtime TL-3
    #[test]
    fn tl_3_only_what_is_longer_than_the_limit_is_shortened() {
        let of = |count: usize| ContentBlock::text("ä".repeat(count));
        assert_eq!(too_long(&[of(MOST)]), None);
        assert!(too_long(&[of(MOST + 1)]).is_some());
        // All texts of a result count together, and images do not.
        assert!(too_long(&[of(MOST / 2), of(MOST / 2)]).is_some());
        assert_eq!(too_long(&[image("image/png", MOST + 1)]), None);

        let content = vec![of(MOST), image("image/png", 4), ContentBlock::text("end")];
        let whole = too_long(&content).unwrap();
        let mut given = Given {
            content,
            is_error: true,
        };
        shorten(&mut given, &whole, "Kept.");
        assert!(given.is_error);
        let [ContentBlock::Text { text }, ContentBlock::Image { .. }] = given.content.as_slice()
        else {
            panic!("a preview and the image: {:?}", given.content.len())
        };
        assert!(text.starts_with(&"ä".repeat(PREVIEW)));
        assert!(text.ends_with("[output truncated: 20000 of 100004 characters are shown. Kept.]"));
        assert!(whole.ends_with("ä\nend"), "the file has all of it");
    }

    /// runtime MC-9, security INP-1
    #[test]
    fn mc_9_images_that_no_model_takes_are_named() {
        #[track_caller]
        fn check(mut content: Vec<ContentBlock>, shown: usize) {
            let before = content.len();
            name_unshown(&mut content);
            assert_eq!(content.len(), before);
            let images = content.iter().filter(|block| text(block).is_none());
            assert_eq!(images.count(), shown);
        }
        check(vec![image("image/png", 100), image("image/webp", 1)], 2);
        check(vec![image("image/png", LONGEST + 1)], 0);
        check(vec![image("image/tiff", 100)], 0);
        check(
            (0..COUNT + 5).map(|_| image("image/png", 4)).collect(),
            COUNT,
        );
        check((0..4).map(|_| image("image/png", LONGEST)).collect(), 3);
        let mut content = vec![image("image/tiff", 100)];
        name_unshown(&mut content);
        assert_eq!(
            text(&content[0]),
            Some("[image/tiff of about 75 bytes, which cannot be shown]")
        );
    }
}
