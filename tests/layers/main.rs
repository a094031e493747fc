//! The layers of the sources: each file imports only from its own layer and those below, and no files import each other
//! in a circle. What `lib.rs` and other modules pass on with `pub use` counts as an import of the file that has it.

mod program;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use program::{Import, Program};

/// The layers, from the lowest to the highest, and the files and folders of each. Of several that hold a file, the
/// longest counts.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "base",
        &[
            "base",
            "unix/system",
            "unix/linux/system",
            "unix/bsd/system",
            "windows/system",
            "windows/token",
            "windows/win32",
        ],
    ),
    ("transport", &["transport"]),
    ("platform", &["unix", "windows"]),
    ("local", &["transport/local", "transport/tokio/local"]),
    ("codec", &["codec", "blob"]),
    ("proto", &["proto"]),
    ("trace", &["trace"]),
    ("driver", &["client", "server"]),
    ("async driver", &["tokio"]),
    ("service", &["service"]),
    ("facade", &["default_codec", "tokio/default_codec", "lib"]),
];

/// Imports that are still wrong, and are to be removed: an upward one, or one of each circle.
const KNOWN: [(&str, &str); 21] = [
    ("client/options", "client"),
    ("proto/pair/hostile", "proto/pair"),
    ("server/budget", "server/streams"),
    ("server/connection", "server/emit"),
    ("server/connection", "server/outlet"),
    ("server/connection", "server/requests"),
    ("server/connection", "server/shared"),
    ("server/connection", "server/watch"),
    ("server/emit", "server/requests"),
    ("server/handler", "server/sink"),
    ("server/job", "server/connection"),
    ("server/share", "server/connection"),
    ("server/shared", "server"),
    ("server/shared", "server/relief"),
    ("server/shared", "server/watch"),
    ("tokio/client/link/drive", "tokio/client/link"),
    ("tokio/server/connection", "tokio/server"),
    ("tokio/server/connection/large", "tokio/server"),
    ("tokio/server/connection/large", "tokio/server/connection"),
    ("tokio/server/core", "tokio/server/state"),
    ("tokio/server/state", "tokio/server/streaming"),
];

/// The number of a file's layer.
fn layer(file: &str) -> usize {
    let stem = file.trim_end_matches(".rs");
    let holds = |prefix: &&str| {
        let rest = stem.strip_prefix(*prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = LAYERS
        .iter()
        .enumerate()
        .filter_map(|(number, (_, prefixes))| {
            let length = prefixes
                .iter()
                .filter(|prefix| holds(prefix))
                .map(|prefix| prefix.len());
            Some((length.max()?, number))
        });
    let (_, number) = found
        .max()
        .unwrap_or_else(|| panic!("no layer has src/{file}"));
    number
}

/// What is wrong with some imports: each upward one, and of each circle one chain.
fn faults(imports: &BTreeMap<Import, String>) -> Vec<String> {
    let mut faults = Vec::new();
    for ((from, to), place) in imports {
        if layer(from) < layer(to) {
            let (lower, upper) = (LAYERS[layer(from)].0, LAYERS[layer(to)].0);
            faults.push(format!("upward, from {lower} to {upper}: {place}, of {to}"));
        }
    }
    let mut told = BTreeSet::new();
    for (from, to) in imports.keys() {
        let Some(mut chain) = way(imports, to, from) else {
            continue;
        };
        chain.insert(0, from.clone());
        if chain.iter().all(|file| told.contains(file)) {
            continue;
        }
        let steps = chain.windows(2).map(|step| {
            let place = &imports[&(step[0].clone(), step[1].clone())];
            format!("\n    {place}, of {}", step[1])
        });
        faults.push(format!(
            "a circle of {}:{}",
            chain.len() - 1,
            steps.collect::<String>()
        ));
        told.extend(chain);
    }
    faults
}

/// The shortest way from one file to another, both included.
fn way(imports: &BTreeMap<Import, String>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = BTreeMap::from([(from, vec![from.to_owned()])]);
    let mut waiting = VecDeque::from([from]);
    while let Some(at) = waiting.pop_front() {
        if at == to {
            return ways.remove(at);
        }
        let start = (at.to_owned(), String::new());
        for (_, next) in imports
            .range(start..)
            .map(|(import, _)| import)
            .take_while(|(from, _)| from == at)
        {
            if !ways.contains_key(&**next) {
                let mut way = ways[at].clone();
                way.push(next.clone());
                ways.insert(next, way);
                waiting.push_back(next);
            }
        }
    }
    None
}

fn sources() -> Program {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    Program::read(|file| fs::read_to_string(directory.join(file)).ok())
}

#[test]
fn no_import_goes_up_and_none_goes_round() {
    let mut imports = sources().imports();
    let known = KNOWN.map(|(from, to)| (format!("{from}.rs"), format!("{to}.rs")));
    let taken = known.clone().map(|import| imports.remove(&import));
    let mut faults = faults(&imports);
    for ((from, to), place) in known.iter().zip(taken) {
        let is_upward = layer(from) < layer(to);
        if place.is_none() || !is_upward && way(&imports, to, from).is_none() {
            faults.push(format!(
                "{from} to {to} is not wrong any more: take it from the list of known ones"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// One that is not read could import what it likes.
#[test]
fn every_source_is_read() {
    let program = sources();
    let read = program.files();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut waiting = vec![directory.clone()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let file = path
                .strip_prefix(&directory)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            let is_of_tests = ["tests.rs", "test_util.rs"]
                .iter()
                .any(|name| file.ends_with(name))
                || file.contains("/tests/")
                || file.starts_with("client/model");
            assert!(is_of_tests || read.contains(&*file), "{file}");
        }
    }
}

/// The imports of a crate that is not there.
fn imports_of(sources: &[(&str, &str)]) -> BTreeMap<Import, String> {
    let find = |file: &Path| {
        let found = sources.iter().find(|(name, _)| Path::new(name) == file);
        found.map(|(_, source)| (*source).to_owned())
    };
    Program::read(find).imports()
}

/// The files that a module takes something from, where it has this source.
fn imports_with(source: &str) -> Vec<String> {
    let imports = imports_of(&[
        (
            "lib.rs",
            "mod base; mod user; pub use base::deadline::Deadline; pub use base::again as name;",
        ),
        (
            "base.rs",
            "pub mod deadline; pub use self::deadline::After as again; mod inner { pub fn f() {} }
            pub mod far; pub use far::*;",
        ),
        ("base/deadline.rs", "pub struct Deadline; pub struct After;"),
        ("base/far.rs", "pub struct Far;"),
        ("user.rs", source),
    ]);
    let found = imports.into_keys().filter(|(from, _)| from == "user.rs");
    found.map(|(_, to)| to).collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    for source in [
        "use crate::Deadline;",
        "use crate::{name, base::{self}};",
        "use super::base::deadline::{After as _};",
        "use crate::base::again;",
        "use crate::base; fn f() { base::again(); }",
        "use crate::base as low; fn f(_: low::deadline::Deadline) {}",
        "fn f() { if x == crate::base::deadline::NEVER {} }",
        "fn f() { println!(\"{}\", crate::Deadline::NEVER); }",
        "macro_rules! m { () => { $crate::Deadline }; }",
        "mod inner { use super::super::Deadline; }",
        "cfg_if! { if #[cfg(x)] { use crate::Deadline; } }",
        "#[cfg(test)] mod tests { use x::y; } use crate::Deadline;",
    ] {
        assert_eq!(imports_with(source), ["base/deadline.rs"], "{source}");
    }
    assert_eq!(imports_with("use crate::base::inner::f;"), ["base.rs"]);
    let glob = imports_with("use crate::base::far::*;");
    assert_eq!(glob, ["base/far.rs"]);
    let through_glob = imports_with("use crate::base::Far;");
    assert!(through_glob.contains(&"base/far.rs".to_owned()));
}

#[test]
fn what_is_no_import_is_none() {
    for source in [
        "// crate::Deadline",
        "/// See [`Deadline`](crate::Deadline).\nfn f() {}",
        "const TEXT: &str = \"use crate::Deadline;\";",
        "#[cfg(test)] use crate::Deadline;",
        "#[cfg(test)] mod tests { use crate::Deadline; }",
        "#[cfg(all(test, unix))] mod tests { fn f() { crate::Deadline::after(); } }",
        "use ::base::deadline::Deadline;",
        "use std::base;",
        // The module alone is not what is in it.
        "use crate::base;",
    ] {
        assert_eq!(imports_with(source), <[&str; 0]>::default(), "{source}");
    }
}

#[test]
fn a_circle_through_the_facade_is_told_with_its_chain() {
    let imports = imports_of(&[
        (
            "lib.rs",
            "mod base; mod transport; pub use transport::Stream;",
        ),
        ("base.rs", "fn f(_: crate::Stream) {}"),
        ("transport.rs", "pub struct Stream; use crate::base::f;"),
    ]);
    let faults = faults(&imports).join("\n");
    let expected = "\
upward, from base to transport: base.rs:1 names crate::Stream, of transport.rs
a circle of 2:
    base.rs:1 names crate::Stream, of transport.rs
    transport.rs:1 names crate::base::f, of base.rs";
    assert_eq!(faults, expected);
}
