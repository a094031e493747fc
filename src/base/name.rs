//! [`Name`]: where a listener is found.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::invalid;
use super::system::System;
use super::user::UserId;
use crate::sys::system::Os;

/// The name of an endpoint on this machine, parsed once and valid everywhere after.
///
/// | written | Windows | Unix |
/// |---|---|---|
/// | `acme.kv` | `\\.\pipe\acme.kv` | `acme.kv.sock` in the user's runtime directory |
/// | `\\.\pipe\acme.kv` | as written | the same as `acme.kv` |
/// | `\\.\pipe\LOCAL\acme.kv` | as written, for app containers | the same as `acme.kv` |
/// | `\\.\pipe\a\b`, `\\SERVER\pipe\acme.kv` | as written (another machine's: to connect only) | `Unsupported` |
/// | `/run/acme.sock`, `./acme.sock` | `Unsupported` | a socket at that path |
/// | `@acme.kv` | `Unsupported` | Linux: the abstract name `acme.kv`; elsewhere `Unsupported` |
///
/// A name is parsed the same on every platform; what a platform does not have is an `Unsupported` error when
/// the name is used. [`Name::system`] and [`Name::per_user`] choose between a name for the machine and one for
/// each user.
///
/// # The user's runtime directory
///
/// A listener at a portable name has its socket in the first of these directories that is the user's own, with mode 0700
/// and not a link:
///
/// 1. `$XDG_RUNTIME_DIR`,
/// 2. `/run/user/UID`,
/// 3. `pipetalk-UID` in the temporary directory (`$TMPDIR`), which it makes if neither of the others is there,
/// 4. `/tmp/pipetalk-UID`, if that cannot be made.
///
/// Processes of one user may see different ones: a server that starts before its user logs in finds no runtime directory,
/// and its client does. So a client looks in all of these, again with each try, and the `NotFound` that it gets names
/// them; and a listener that finds its name served in another of them does not bind it. What neither can know is a
/// directory of which only the other's environment tells: a server whose only directory is below its own `$TMPDIR` or in
/// its own `$XDG_RUNTIME_DIR` is found by processes with the same variable. And where several machines or containers share
/// the directory, they share the names, while a socket reaches those alone that run on the same kernel. A path
/// ([`Name::path`]) depends on none of this.
///
/// # Limits
///
/// A portable name has no slash, backslash, colon, NUL or other control character, is not empty, does not end in a dot or
/// a space, and with `\\.\pipe\` before it has at most 256 UTF-16 units ([`CreateNamedPipe`][limit]). The same goes for
/// each part of a pipe path between its backslashes: Windows would go up at `..`, pass over what is empty or `.`, and drop
/// dots and spaces at the end ([how paths are normalized][paths]), so that the path would be that of another pipe, or of a
/// file. Case does not matter: it is folded to lower case. The whole path of a Unix socket has at most 107 bytes (103 on
/// macOS), which is checked when the name is used, because it depends on the directory.
///
/// [limit]: https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew
/// [paths]: https://learn.microsoft.com/en-us/dotnet/standard/io/file-path-formats#path-normalization
///
/// ```
/// use pipetalk::Name;
///
/// let name: Name = "Acme.kv".parse()?;
/// assert_eq!(name, Name::new(r"\\.\pipe\acme.kv")?);
/// assert_eq!(name.to_string(), "acme.kv");
///
/// let error = Name::new("acme/kv").unwrap_err();
/// assert!(error.to_string().contains("slash"), "{error}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(pub(crate) Kind);

/// What a name can be; each platform says what it makes of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The portable kind: no directory, no prefix.
    Portable(String),
    /// A pipe path that is more than a portable name: `server` is `.` for this machine.
    Pipe { server: String, path: String },
    /// A path in the file system.
    Path(PathBuf),
    /// Linux's abstract namespace, without the `@`.
    Abstract(String),
}

/// [`CreateNamedPipe`]: the whole pipe name, `\\.\pipe\` included, has at most 256 characters.
const MAX_PIPE_PATH: usize = 256;
/// What a path begins with, so that it is not taken for a name.
const PATH_PREFIXES: [&str; 3] = ["/", "./", "../"];
const PIPE_PREFIX: &str = r"\\.\pipe\";

impl Name {
    /// Parses a name: a portable name, a pipe path, a socket path or an abstract name, as in the table above.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, in words that say what is wrong with the name.
    pub fn new(name: &str) -> io::Result<Name> {
        if let Some((server, path)) = split_pipe_path(name) {
            return Name::pipe(server, path);
        }
        if let Some(name) = name.strip_prefix('@') {
            check_characters(name)?;
            return Ok(Name(Kind::Abstract(name.to_owned())));
        }
        if ["/", "./", "../"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            return Name::path(name);
        }
        Name::portable(name)
    }

    /// A socket at a path. A relative path is relative to the directory that the process is in when the name
    /// is used: a listener stays where it was bound, and a client that waits goes on looking in the same place, wherever
    /// the process goes.
    ///
    /// A listener keeps a lock beside its socket, in `PATH.lock`, which stays there. Where others may create files in the
    /// directory, as in a temporary one, choose a directory of your own: another user's file of that name is passed over
    /// (the lock is `PATH.UID.lock` then), but one at the path itself keeps everybody else from listening.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the path is empty, ends in a slash or holds a NUL.
    pub fn path(path: impl AsRef<Path>) -> io::Result<Name> {
        let path = path.as_ref();
        let bytes = path.as_os_str().as_encoded_bytes();
        if bytes.contains(&0) {
            return Err(invalid("a path cannot hold a NUL"));
        }
        if bytes.is_empty() || bytes.ends_with(b"/") || path.file_name().is_none() {
            return Err(invalid(format!(
                "{} is not the path of a socket",
                path.display()
            )));
        }
        Ok(Name(Kind::Path(path.to_owned())))
    }

    /// The machine's name: one for all users, who need [`Access`](crate::Access) to connect. It is
    /// `\\.\pipe\NAME` on Windows and `/run/NAME.sock` (macOS: `/var/run/NAME.sock`) on Unix, where creating it
    /// usually takes a privileged user.
    ///
    /// # Errors
    ///
    /// As [`Name::new`]; the name has to be a portable one.
    pub fn system(name: &str) -> io::Result<Name> {
        let Kind::Portable(name) = Name::portable(name)?.0 else {
            unreachable!("portable names are")
        };
        match Os::SYSTEM_DIRECTORY {
            Some(directory) => Name::path(format!("{directory}/{name}.sock")),
            None => Ok(Name(Kind::Portable(name))),
        }
    }

    /// The user's own name, apart from the same name of another user. It is `\\.\pipe\NAME.SID` on Windows,
    /// with the security identifier of the process token's user; on Unix a portable name is the user's own as it is.
    ///
    /// # Errors
    ///
    /// As [`Name::new`]; the name has to be a portable one.
    pub fn per_user(name: &str) -> io::Result<Name> {
        let Kind::Portable(name) = Name::portable(name)?.0 else {
            unreachable!("portable names are")
        };
        match UserId::current()? {
            UserId::Sid(sid) => Name::portable(&format!("{name}.{sid}")),
            // It is in the user's own directory.
            UserId::Uid(_) => Ok(Name(Kind::Portable(name))),
        }
    }

    fn portable(name: &str) -> io::Result<Name> {
        if name.contains('/') {
            return Err(invalid(format!(
                "{name:?} cannot be a name: it holds a slash (write ./{name} or an absolute path for a socket at a path)"
            )));
        }
        if name.contains('\\') {
            return Err(invalid(format!(
                r"{name:?} cannot be a name: it holds a backslash (a full pipe path is \\.\pipe\NAME)"
            )));
        }
        check_characters(name)?;
        check_component(name)?;
        check_pipe_length(".", name)?;
        Ok(Name(Kind::Portable(fold(name))))
    }

    fn pipe(server: &str, path: &str) -> io::Result<Name> {
        check_characters(path)?;
        if path.contains('/') || server.is_empty() {
            return Err(invalid(format!(
                r"\\{server}\pipe\{path} is not a pipe path"
            )));
        }
        check_characters(server)?;
        if server != "." {
            check_component(server)?;
        }
        path.split('\\').try_for_each(check_component)?;
        check_pipe_length(server, path)?;
        if server == "." && !path.contains('\\') {
            return Name::portable(path);
        }
        Ok(Name(Kind::Pipe {
            server: server.to_owned(),
            path: fold(path),
        }))
    }
}

/// Splits `\\SERVER\pipe\PATH`, also when it is written with slashes or with `?` for this machine.
fn split_pipe_path(name: &str) -> Option<(&str, &str)> {
    let slash = |c: char| c == '\\' || c == '/';
    let rest = name
        .strip_prefix(r"\\")
        .or_else(|| name.strip_prefix("//"))?;
    let (server, rest) = rest.split_once(slash)?;
    let (pipe, path) = rest.split_once(slash)?;
    pipe.eq_ignore_ascii_case("pipe")
        .then_some((if server == "?" { "." } else { server }, path))
}

fn check_characters(name: &str) -> io::Result<()> {
    if name.is_empty() {
        return Err(invalid("a name cannot be empty"));
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(invalid(format!(
            "{name:?} cannot be a name: it holds the control character {control:?}"
        )));
    }
    Ok(())
}

/// Refuses what Windows makes something else of when it opens a path, be it outside of the pipes.
fn check_component(component: &str) -> io::Result<()> {
    let why = if component.is_empty() {
        "a part of it is empty"
    } else if matches!(component, "." | "..") {
        "it leads to another place, as a path with `.` and `..` does"
    } else if component.contains(':') {
        "it holds a colon, as the path of a file or a device does"
    } else if component.ends_with(['.', ' ']) {
        "it ends in a dot or a space, which Windows drops"
    } else {
        return Ok(());
    };
    Err(invalid(format!("{component:?} cannot be a name: {why}")))
}

fn check_pipe_length(server: &str, path: &str) -> io::Result<()> {
    let length = PIPE_PREFIX.len() - 1
        + [server, path]
            .iter()
            .map(|s| s.encode_utf16().count())
            .sum::<usize>();
    if length > MAX_PIPE_PATH {
        return Err(invalid(format!(
            r"the name is too long: \\{server}\pipe\ and the name have {length} UTF-16 units, and the limit is {MAX_PIPE_PATH}"
        )));
    }
    Ok(())
}

/// Folds case one character to one, as the pipe file system does, so that no name changes its length.
fn fold(name: &str) -> String {
    let lower = |c: char| {
        let mut folded = c.to_lowercase();
        match (folded.next(), folded.next()) {
            (Some(one), None) if one.len_utf16() == c.len_utf16() => one,
            _ => c,
        }
    };
    name.chars().map(lower).collect()
}

/// The same as [`Name::new`].
impl FromStr for Name {
    type Err = io::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Name::new(name)
    }
}

/// A form that [`Name::new`] parses to the same name (apart from a path that is not Unicode).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Portable(name) if name.starts_with('@') => write!(f, "{PIPE_PREFIX}{name}"),
            Kind::Portable(name) => f.write_str(name),
            Kind::Pipe { server, path } => write!(f, r"\\{server}\pipe\{path}"),
            Kind::Abstract(name) => write!(f, "@{name}"),
            Kind::Path(path) => {
                let path = path.display().to_string();
                let plain = PATH_PREFIXES.iter().any(|prefix| path.starts_with(prefix));
                write!(f, "{}{path}", if plain { "" } else { "./" })
            }
        }
    }
}

/// What can be used as a [`Name`]: a name, or text that is parsed by [`Name::new`].
pub trait ToName {
    /// The name.
    ///
    /// # Errors
    ///
    /// As [`Name::new`].
    fn to_name(&self) -> io::Result<Name>;
}

impl ToName for Name {
    fn to_name(&self) -> io::Result<Name> {
        Ok(self.clone())
    }
}

impl ToName for str {
    fn to_name(&self) -> io::Result<Name> {
        Name::new(self)
    }
}

impl ToName for String {
    fn to_name(&self) -> io::Result<Name> {
        Name::new(self)
    }
}

impl<T: ToName + ?Sized> ToName for &T {
    fn to_name(&self) -> io::Result<Name> {
        (**self).to_name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portable(name: &str) -> Name {
        Name(Kind::Portable(name.into()))
    }

    /// What Windows would take for another path than the one that is written.
    const MISLEADING: [(&str, &str); 22] = [
        (".", "another place"),
        ("..", "another place"),
        ("...", "a dot or a space"),
        ("acme.", "a dot or a space"),
        ("acme.. ", "a dot or a space"),
        ("acme ", "a dot or a space"),
        (" ", "a dot or a space"),
        ("c:", "colon"),
        ("acme:kv", "colon"),
        ("acme::$DATA", "colon"),
        (r"\\.\pipe\.", "another place"),
        (r"\\.\pipe\..", "another place"),
        (r"\\?\pipe\..\C:\x.txt", "another place"),
        (r"\\.\pipe\..\C:\x.txt", "another place"),
        (r"\\.\pipe\a\..\..\C:\x.txt", "another place"),
        (r"\\.\pipe\a\.\b", "another place"),
        (r"\\.\pipe\C:\x.txt", "colon"),
        (r"\\.\pipe\a.\b", "a dot or a space"),
        (r"\\.\pipe\a\b ", "a dot or a space"),
        (r"\\.\pipe\\a", "empty"),
        (r"\\.\pipe\a\", "empty"),
        (r"\\..\pipe\a", "another place"),
    ];

    #[test]
    fn n04_a_dot_a_colon_or_a_space_within_a_name_misleads_nobody() {
        for name in [
            "acme.kv",
            ".acme",
            "..acme",
            "acme kv",
            " acme",
            r"\\.\pipe\a b\.c\d.e",
        ] {
            Name::new(name).unwrap();
        }
        // Paths and abstract names are no paths of pipes.
        for name in ["./acme.", "/tmp/../acme:kv ", "@acme.:"] {
            Name::new(name).unwrap();
        }
    }

    #[test]
    fn n01_a_portable_name_is_that_of_its_pipe_path() {
        for same in [
            "acme.kv",
            r"\\.\pipe\acme.kv",
            r"\\?\PIPE\acme.kv",
            "//./pipe/acme.kv",
        ] {
            assert_eq!(Name::new(same).unwrap(), portable("acme.kv"), "{same}");
        }
    }

    #[test]
    fn n02_case_does_not_matter_and_keeps_the_length() {
        assert_eq!(Name::new("ACME.Kv").unwrap(), Name::new("acme.kV").unwrap());
        assert_eq!(Name::new("ÄÖÜ").unwrap(), portable("äöü"));
        // Its lower case is two characters: it stays.
        assert_eq!(Name::new("İ").unwrap(), portable("İ"));
    }

    #[test]
    fn n03_a_pipe_path_has_at_most_256_units() {
        let longest = "x".repeat(247);
        Name::new(&longest).unwrap();
        Name::new(&format!(r"\\.\pipe\{longest}")).unwrap();
        for name in [
            "x".repeat(248),
            "🦀".repeat(124),
            format!(r"\\srv\pipe\{}", "x".repeat(247)),
        ] {
            let error = Name::new(&name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("256"), "{error}");
        }
    }

    #[test]
    fn n04_a_name_that_cannot_be_is_refused_in_words() {
        let cases = [
            ("", "empty"),
            ("@", "empty"),
            (r"\\.\pipe\", "empty"),
            ("a/b", "slash"),
            (r"a\b", "backslash"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("@a\0", "control"),
            ("/tmp/", "not the path"),
            ("/tmp/..", "not the path"),
            ("/tmp/a\0b", "NUL"),
            (r"\\\pipe\a", "not a pipe path"),
            (r"\\.\pipe\a/b", "not a pipe path"),
        ];
        for (name, why) in cases.into_iter().chain(MISLEADING) {
            let error = Name::new(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
            assert!(error.to_string().contains(why), "{name:?}: {error}");
        }
    }

    #[test]
    fn n05_pipe_paths_of_other_kinds_are_kept() {
        let name = Name::new(r"\\Server\pipe\Acme").unwrap();
        assert_eq!(
            name.0,
            Kind::Pipe {
                server: "Server".into(),
                path: "acme".into()
            }
        );
        let name = Name::new(r"\\.\pipe\LOCAL\acme").unwrap();
        assert_eq!(
            name.0,
            Kind::Pipe {
                server: ".".into(),
                path: r"local\acme".into()
            }
        );
    }

    #[test]
    fn a_name_is_parsed_as_it_is_shown() {
        for text in [
            "acme.kv",
            r"\\.\pipe\@odd",
            r"\\.\pipe\local\acme",
            r"\\server\pipe\acme",
            "/run/acme.sock",
            "./acme.sock",
            "../acme.sock",
            "@acme",
        ] {
            let name = Name::new(text).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
        assert_eq!(Name::path("acme.sock").unwrap().to_string(), "./acme.sock");
    }
}
