//! Reads the texts of the source: its log lines, and all other string literals.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The folders whose code an operator runs.
const FOLDERS: [&str; 3] = ["backends", "gateway", "zone-router"];

/// The macros of `tracing` that are read.
const LEVELS: [&str; 3] = ["error", "warn", "info"];

/// Modules that an operator never runs.
const LEFT_OUT: [&str; 4] = ["conformance", "tests", "tests.rs", "target"];

/// One call of a macro of `tracing`.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) level: &'static str,
    /// The message. `…` stands for a filled-in value.
    pub(super) text: String,
}

/// The texts of the source.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) logs: Vec<Log>,
    /// The string literals. `…` stands for a filled-in value.
    pub(super) literals: Vec<String>,
    /// The names of fields, functions and so on.
    pub(super) names: BTreeSet<String>,
}

impl Texts {
    /// Reads the source.
    pub(super) fn read() -> Result<Self> {
        let mut texts = Self::default();
        for folder in FOLDERS {
            for file in files(&super::root().join(folder))? {
                let text = std::fs::read_to_string(&file)?;
                let tokens: TokenStream =
                    text.parse().ok().with_context(|| format!("{} is no Rust", file.display()))?;
                texts.add(tokens);
            }
        }
        Ok(texts)
    }

    fn add(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    let attribute = tokens.get(at).map(ToString::to_string).unwrap_or_default();
                    if attribute == "[cfg (test)]" {
                        // The item that follows ends with a block or a semicolon.
                        at += 1 + tokens[at..].iter().take_while(|token| !ends_item(token)).count();
                    } else if attribute.starts_with("[doc =") {
                        at += 1;
                    }
                }
                TokenTree::Ident(name) => {
                    let name = name.to_string();
                    if let Some(log) = log(&name, &tokens[at..]) {
                        self.logs.push(log);
                    }
                    self.names.insert(name);
                }
                TokenTree::Literal(literal) => self.literals.extend(text(&literal.to_string())),
                TokenTree::Group(group) => self.add(group.stream()),
                TokenTree::Punct(_) => {}
            }
        }
    }
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    }
}

/// The call of a log macro. Its message is the first argument that consists of a string literal.
fn log(name: &str, after: &[TokenTree]) -> Option<Log> {
    let level = LEVELS.into_iter().find(|level| *level == name)?;
    let [TokenTree::Punct(mark), TokenTree::Group(group), ..] = after else { return None };
    if mark.as_char() != '!' {
        return None;
    }
    let arguments: Vec<TokenTree> = group.stream().into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    let message = arguments.split(is_comma).find_map(|argument| match argument {
        [TokenTree::Literal(literal)] => text(&literal.to_string()),
        _ => None,
    });
    Some(Log { level, text: message? })
}

/// The text of a string literal. Continued lines are joined, and `{…}` becomes `…`.
fn text(literal: &str) -> Option<String> {
    let inner = literal.trim_start_matches(['b', 'r', '#']).trim_end_matches('#');
    let inner = inner.strip_prefix('"')?.strip_suffix('"')?;
    let mut lines = inner.split("\\\n");
    let mut joined = lines.next().unwrap_or_default().to_owned();
    lines.for_each(|line| joined.push_str(line.trim_start()));
    let joined = joined.replace("\\\"", "\"").replace("{{", "").replace("}}", "");
    let mut parts = joined.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        filled.push('…');
        filled.push_str(part.split_once('}').map_or("", |(_, rest)| rest));
    }
    Some(filled)
}

/// The Rust files of a folder, except those of tests.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if LEFT_OUT.contains(&name.as_str()) || name.ends_with("_tests.rs") {
            continue;
        }
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(files)
}
