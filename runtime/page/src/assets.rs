//! The files of the page, inside the binary.
//!
//! In: the path of a request. Out: the file, its type, its tag and its gzip form. It must never read the
//! disk: what is not in the table does not exist, so no path can climb out of it.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;

/// One file of the page.
#[derive(Debug, Clone)]
pub struct Asset {
    /// The file as it is.
    pub bytes: Cow<'static, [u8]>,
    /// The same file for a client that accepts `Content-Encoding: gzip`.
    pub gzip: Cow<'static, [u8]>,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The value of `ETag`, with its quotes. It changes when the file does.
    pub etag: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal => $content_type:expr,)*) => {
        &[$(($path, $content_type, include_bytes!(concat!("../assets", $path)))),*]
    };
}

/// Path, `Content-Type` and bytes of every file below `assets/`.
static FILES: &[(&str, &str, &[u8])] = files! {
    "/index.html" => HTML,
    "/pair.html" => HTML,
    "/privacy.html" => HTML,
    "/box.html" => HTML,
    "/style.css" => CSS,
    "/icon.svg" => SVG,
    "/app.js" => SCRIPT,
    "/js/announce.js" => SCRIPT,
    "/js/answer.js" => SCRIPT,
    "/js/api.js" => SCRIPT,
    "/js/box.js" => SCRIPT,
    "/js/composer.js" => SCRIPT,
    "/js/conversation.js" => SCRIPT,
    "/js/dom.js" => SCRIPT,
    "/js/latest.js" => SCRIPT,
    "/js/models.js" => SCRIPT,
    "/js/pair.js" => SCRIPT,
    "/js/privacy.js" => SCRIPT,
    "/js/render.js" => SCRIPT,
    "/js/settings.js" => SCRIPT,
    "/js/shelf.js" => SCRIPT,
    "/js/sse.js" => SCRIPT,
    "/js/status.js" => SCRIPT,
    "/js/store.js" => SCRIPT,
    "/js/theme.js" => SCRIPT,
    "/js/thread.js" => SCRIPT,
    "/js/turn.js" => SCRIPT,
};

struct Packed {
    gzip: Vec<u8>,
    etag: String,
}

static PACKED: LazyLock<Vec<Packed>> =
    LazyLock::new(|| FILES.iter().map(|(_, _, bytes)| pack(bytes)).collect());

fn pack(bytes: &[u8]) -> Packed {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let gzip = encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail");
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Packed {
        gzip,
        etag: format!("\"{:016x}\"", hasher.finish()),
    }
}

/// The file at the path of a request, or `None` where the page has no such file.
///
/// `""` and `"/"` are the page itself, `"/pair"` is where a browser is let in, `"/privacy"` the page about what is
/// kept, `"/box"` the owner's. The path is taken as it stands: no query, nothing decoded.
///
/// ```
/// let page = cloister_page::asset("/").unwrap();
/// assert_eq!(page.content_type, "text/html; charset=utf-8");
/// assert!(cloister_page::asset("/../Cargo.toml").is_none());
/// ```
pub fn asset(path: &str) -> Option<Asset> {
    let path = match path {
        "" | "/" => "/index.html",
        "/pair" => "/pair.html",
        "/privacy" => "/privacy.html",
        "/box" => "/box.html",
        path => path,
    };
    let at = FILES.iter().position(|(name, ..)| *name == path)?;
    let (_, content_type, bytes) = FILES[at];
    let packed = &PACKED[at];
    Some(Asset {
        bytes: Cow::Borrowed(bytes),
        gzip: Cow::Borrowed(&packed.gzip),
        content_type,
        etag: &packed.etag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn files_below(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, root, found);
            } else {
                found.insert(format!("/{}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }

    fn text(path: &str) -> String {
        String::from_utf8(asset(path).unwrap().bytes.into_owned()).unwrap()
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut found = BTreeSet::new();
        files_below(&root, &root, &mut found);
        let known: BTreeSet<String> = FILES.iter().map(|(path, ..)| path.to_string()).collect();
        assert_eq!(found, known);
    }

    #[test]
    fn the_whole_page_is_small_over_the_wire() {
        let total: usize = PACKED.iter().map(|packed| packed.gzip.len()).sum();
        assert!(total < 60_000, "{total} bytes gzipped");
    }

    #[test]
    fn the_gzip_form_unpacks_to_the_file() {
        for (path, ..) in FILES {
            let asset = asset(path).unwrap();
            let mut plain = Vec::new();
            std::io::copy(
                &mut flate2::read::GzDecoder::new(&asset.gzip[..]),
                &mut plain,
            )
            .unwrap();
            assert_eq!(plain, asset.bytes.as_ref(), "{path}");
        }
    }

    #[test]
    fn no_file_names_another_host() {
        // The names of XML languages are URLs that nobody fetches.
        let names = [
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1998/Math/MathML",
        ];
        for (path, ..) in FILES {
            let mut text = text(path);
            for name in names {
                text = text.replace(name, "");
            }
            assert!(!text.contains("://"), "{path} names another host");
        }
    }

    #[test]
    fn the_html_has_no_inline_script_style_or_handler() {
        for html in [text("/"), text("/pair")] {
            assert!(!html.contains("<style") && !html.contains(" style="));
            assert!(!html.contains(" onclick=") && !html.contains("javascript:"));
            for script in html.split("<script").skip(1) {
                let tag = script.split('>').next().unwrap();
                assert!(tag.contains("src=\"/"), "inline script: {tag}");
            }
        }
    }

    #[test]
    fn every_file_that_the_html_and_the_modules_load_exists() {
        let html = text("/") + &text("/pair");
        for part in html
            .split("href=\"/")
            .skip(1)
            .chain(html.split("src=\"/").skip(1))
        {
            let path = format!("/{}", part.split('"').next().unwrap());
            assert!(asset(&path).is_some(), "the HTML loads {path}");
        }
        for (path, ..) in FILES.iter().filter(|(path, ..)| path.ends_with(".js")) {
            let folder = &path[..=path.rfind('/').unwrap()];
            for part in text(path).split(" from \"./").skip(1) {
                let module = format!("{folder}{}", part.split('"').next().unwrap());
                assert!(asset(&module).is_some(), "{path} imports {module}");
            }
        }
    }

    #[test]
    fn an_unknown_path_is_nothing() {
        for path in [
            "/nothing",
            "/js/",
            "/index.html?x",
            "//",
            "/js/../index.html",
        ] {
            assert!(asset(path).is_none(), "{path}");
        }
    }
}
