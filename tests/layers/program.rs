//! The modules of the crate, and which file takes something from which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tokens::{Token, tokens};

/// A path of the source: `crate::base::Name`, in words.
type Words = Vec<String>;

/// A module: a file, or a part of one.
#[derive(Debug, Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// The names that `use` has made; several where `cfg` chooses.
    names: BTreeMap<String, Vec<Words>>,
    globs: Vec<Words>,
    /// What is named somewhere in it, and on which line.
    named: Vec<(Words, usize)>,
}

/// The modules of a crate by their paths from its root, which has the empty one.
#[derive(Debug, Default)]
pub(crate) struct Program {
    modules: BTreeMap<Words, Module>,
    /// The files of the macros that are at the root, wherever they are written.
    macros: BTreeMap<String, String>,
}

/// A file that takes something from another: from, to.
pub(crate) type Import = (String, String);

impl Program {
    /// Reads a crate, whose files `read` gives by their paths below `src`; `None` for one that is not there.
    pub(crate) fn read(read: impl Fn(&Path) -> Option<String>) -> Program {
        let mut program = Program::default();
        let mut waiting = vec![(Words::new(), "lib.rs".to_owned())];
        while let Some((path, file)) = waiting.pop() {
            let source = read(file.as_ref()).unwrap_or_else(|| panic!("there is no src/{file}"));
            let tokens = tokens(&source);
            let mut parser = Parser {
                tokens: &tokens,
                program: &mut program,
                files: Vec::new(),
            };
            parser.module(path, &file);
            waiting.append(&mut parser.files);
        }
        program
    }

    /// All files.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.modules.values().map(|module| &*module.file).collect()
    }

    /// Which file takes something from which other, with the first place where it does: the line and what it names.
    pub(crate) fn imports(&self) -> BTreeMap<Import, String> {
        let mut found = BTreeMap::new();
        for (path, module) in &self.modules {
            for (named, line) in &module.named {
                for file in self.files_of(path, named) {
                    if file != module.file {
                        let place = format!("{}:{line} names {}", module.file, named.join("::"));
                        found.entry((module.file.clone(), file)).or_insert(place);
                    }
                }
            }
        }
        found
    }

    /// The files in which the item is that a module names so; none for what is not of this crate, and for a module.
    fn files_of(&self, module: &[String], named: &[String]) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        self.resolve(module, named, &mut BTreeSet::new(), &mut files);
        files
    }

    fn resolve(
        &self,
        module: &[String],
        named: &[String],
        seen: &mut BTreeSet<(Words, Words)>,
        files: &mut BTreeSet<String>,
    ) {
        let mut at = module.to_vec();
        let mut rest = named;
        while let [first, after @ ..] = rest {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => {
                    at.pop();
                }
                _ => break,
            }
            rest = after;
        }
        let is_of_the_crate = rest.len() < named.len();
        self.resolve_at(&at, rest, is_of_the_crate, seen, files);
    }

    fn resolve_at(
        &self,
        at: &[String],
        rest: &[String],
        is_of_the_crate: bool,
        seen: &mut BTreeSet<(Words, Words)>,
        files: &mut BTreeSet<String>,
    ) {
        if !seen.insert((at.to_vec(), rest.to_vec())) {
            return;
        }
        let Some(module) = self.modules.get(at) else {
            return;
        };
        let Some((first, after)) = rest.split_first() else {
            return;
        };
        let is_child = module.children.contains(first);
        // A module and a function may have the same name; only the module has something in it.
        let names = match is_child && !after.is_empty() {
            true => None,
            false => module.names.get(first),
        };
        if let Some(targets) = names {
            for target in targets {
                let whole: Words = target.iter().chain(after).cloned().collect();
                // What begins with its own name is of another crate.
                if target.first() != Some(first) || is_child {
                    self.resolve(at, &whole, seen, files);
                }
            }
        } else if is_child {
            let child: Words = at.iter().chain([first]).cloned().collect();
            self.resolve_at(&child, after, true, seen, files);
        } else if let (true, Some(file)) = (at.is_empty(), self.macros.get(first)) {
            files.insert(file.clone());
        } else if is_of_the_crate {
            files.insert(module.file.clone());
            for glob in &module.globs {
                let whole: Words = glob.iter().chain(rest).cloned().collect();
                self.resolve(at, &whole, seen, files);
            }
        }
    }
}

/// What reads the tokens of one file.
struct Parser<'a, 'p> {
    tokens: &'a [Token<'a>],
    program: &'p mut Program,
    /// The files of modules that were declared.
    files: Vec<(Words, String)>,
}

impl<'a> Parser<'a, '_> {
    fn text(&self) -> &'a str {
        self.tokens.first().map_or("", |token| token.text)
    }

    fn skip(&mut self) -> &'a str {
        let text = self.text();
        self.tokens = self.tokens.get(1..).unwrap_or_default();
        text
    }

    fn skip_if(&mut self, text: &str) -> bool {
        let is_it = self.text() == text;
        if is_it {
            self.skip();
        }
        is_it
    }

    /// Reads a module to its closing brace, or to the end of the file.
    fn module(&mut self, path: Words, file: &str) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        let mut depth = 0;
        let mut before = "";
        while let Some(token) = self.tokens.first() {
            let text = token.text;
            match text {
                "#" => {
                    self.skip();
                    self.skip_if("!");
                    if self.attribute() {
                        self.item();
                    }
                }
                "{" => {
                    self.skip();
                    depth += 1;
                }
                "}" if depth == 0 => {
                    self.skip();
                    break;
                }
                "}" => {
                    self.skip();
                    depth -= 1;
                }
                // `use<'a>` is a bound.
                "use" if self.tokens.get(1).is_some_and(|next| next.text != "<") => {
                    self.skip();
                    self.names(Words::new(), token.line, &mut module);
                }
                "macro_rules" => {
                    self.skip();
                    self.skip_if("!");
                    let name = self.skip().to_owned();
                    self.program.macros.insert(name, file.to_owned());
                }
                "mod" => {
                    self.skip();
                    self.child(&path, file, &mut module);
                }
                _ if is_word(text) && before != "::" && before != "." => {
                    self.named(&mut module);
                }
                _ => {
                    self.skip();
                }
            }
            before = text;
        }
        self.program.modules.insert(path, module);
    }

    /// Passes over an attribute, and says whether it is that of tests.
    fn attribute(&mut self) -> bool {
        let tokens = self.tokens;
        self.group();
        let length = tokens.len() - self.tokens.len();
        let texts: Vec<_> = tokens[..length].iter().map(|token| token.text).collect();
        texts.join(" ").starts_with("[ cfg ( test )")
            || texts.join(" ").starts_with("[ cfg ( all ( test ")
    }

    /// Passes over what stands in brackets.
    fn group(&mut self) {
        let mut depth = 0;
        while !self.tokens.is_empty() {
            match self.skip() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }

    /// Passes over an item with its attributes: to a semicolon, or to the end of its braces.
    fn item(&mut self) {
        while self.skip_if("#") {
            self.group();
        }
        let visibility = ["pub", "(", "crate", "super", "in", "::", ")"];
        let mut words = self.tokens.iter().map(|token| token.text);
        let is_use = words.find(|word| !visibility.contains(word)) == Some("use");
        while !self.tokens.is_empty() {
            match self.text() {
                "{" => {
                    self.group();
                    if !is_use {
                        return;
                    }
                }
                "(" | "[" => self.group(),
                ";" => {
                    self.skip();
                    return;
                }
                _ => {
                    self.skip();
                }
            }
        }
    }

    fn child(&mut self, path: &[String], file: &str, module: &mut Module) {
        let name = self.skip().to_owned();
        if !is_word(&name) {
            return;
        }
        let mut child = path.to_vec();
        child.push(name.clone());
        module.children.insert(name);
        if self.skip_if("{") {
            self.module(child, file);
        } else {
            let file = format!("{}.rs", child.join("/"));
            self.files.push((child, file));
        }
    }

    /// Reads what `use` says, behind what stands before it.
    fn names(&mut self, mut path: Words, line: usize, module: &mut Module) {
        self.skip_if("$");
        // Of another crate.
        let is_external = self.text() == "::" && path.is_empty();
        if is_external {
            let mut other = Module::default();
            self.skip();
            self.names(path, line, &mut other);
            let names = other.names.into_keys();
            // It hides what is there under the name otherwise.
            module.names.extend(names.map(|name| (name, Vec::new())));
            return;
        }
        loop {
            match self.text() {
                "{" => {
                    self.skip();
                    while !self.skip_if("}") && !self.tokens.is_empty() {
                        self.names(path.clone(), line, module);
                        self.skip_if(",");
                    }
                    return;
                }
                "*" => {
                    self.skip();
                    // To name anything of it is to name the module.
                    let mut named = path.clone();
                    named.push("*".to_owned());
                    module.named.push((named, line));
                    module.globs.push(path);
                    return;
                }
                text if is_word(text) => path.push(self.skip().to_owned()),
                _ => return,
            }
            if !self.skip_if("::") {
                break;
            }
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.skip_if("as") {
            name = self.skip().to_owned();
        }
        module.named.push((path.clone(), line));
        if name != "_" {
            module.names.entry(name).or_default().push(path);
        }
    }

    /// Reads a path that stands somewhere in the code.
    fn named(&mut self, module: &mut Module) {
        let line = self.tokens[0].line;
        let mut path = vec![self.skip().to_owned()];
        while self.text() == "::" && self.tokens.get(1).is_some_and(|next| is_word(next.text)) {
            self.skip();
            path.push(self.skip().to_owned());
        }
        if path.len() > 1 {
            module.named.push((path, line));
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
