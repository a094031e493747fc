//! Where a name is on this machine.

use std::env;
use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

use super::os;
use super::os::files::Entry;
use crate::Name;
use crate::base::error::{invalid, unsupported};
use crate::base::name::Kind;

/// The place of a socket.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the file system, by a path that does not depend on the directory that the process is in.
    Path(PathBuf),
    /// The same where that path is too long for a socket, and the one that was given is not.
    Relative { path: PathBuf, given: PathBuf },
    /// In Linux's abstract namespace.
    Abstract(String),
}

impl Place {
    /// The place of a path: the process may be in another directory later.
    fn at(given: &Path) -> Place {
        // Where there is no directory to be in, the system will say so.
        let path = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
        let (full, short) = (path.as_os_str().len(), given.as_os_str().len());
        if full > os::MAX_PATH && short < full {
            let given = given.to_owned();
            return Place::Relative { path, given };
        }
        Place::Path(path)
    }

    /// The file of the socket, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Place::Path(path) | Place::Relative { path, .. } => Some(path),
            Place::Abstract(_) => None,
        }
    }

    /// The address, checked before any system call sees it.
    pub(super) fn address(&self) -> io::Result<SocketAddrUnix> {
        let length = match self {
            Place::Path(path) => path.as_os_str().len(),
            Place::Relative { given, .. } => given.as_os_str().len(),
            Place::Abstract(name) => name.len(),
        };
        if length > os::MAX_PATH {
            return Err(invalid(format!(
                "{self} is too long for a Unix socket: {length} bytes, and the limit is {}",
                os::MAX_PATH
            )));
        }
        match self {
            Place::Path(path) => Ok(SocketAddrUnix::new(path.as_path())?),
            Place::Relative { given, .. } => Ok(SocketAddrUnix::new(given.as_path())?),
            Place::Abstract(name) => os::abstract_address(name),
        }
    }

    /// The address for as long as the socket has it, if there is one.
    pub(super) fn lasting_address(&self) -> Option<SocketAddrUnix> {
        match self {
            Place::Relative { .. } => None,
            place => place.address().ok(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Path(path) | Place::Relative { path, .. } => write!(f, "{}", path.display()),
            Place::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// Where the listener of a name may be.
///
/// A portable name is in one of several directories, and which of them there are depends on the process and on the time:
/// a server that starts before its user has logged in finds no runtime directory, and its client does.
#[derive(Debug)]
pub(super) enum Search {
    At(Place),
    InDirectories { file: String },
}

impl Search {
    pub(super) fn new(name: &Name) -> io::Result<Search> {
        match &name.0 {
            Kind::Portable(name) => Ok(Search::InDirectories {
                file: format!("{name}.sock"),
            }),
            Kind::Pipe { server, path } if server == "." => match path.strip_prefix(r"local\") {
                Some(name) if !name.is_empty() && !name.contains('\\') => {
                    Search::new(&Name::new(name)?)
                }
                _ => Err(unsupported(format!(
                    "{name} is a pipe path with directories, which only Windows has"
                ))),
            },
            Kind::Pipe { .. } => Err(unsupported(format!(
                "{name} is a pipe of another machine, which only Windows reaches"
            ))),
            Kind::Path(path) => Ok(Search::At(Place::at(path))),
            Kind::Abstract(name) => Ok(Search::At(Place::Abstract(name.clone()))),
        }
    }

    /// Tries one place after the other, as they are now, until there is somebody; nothing is created.
    ///
    /// # Errors
    ///
    /// `NotFound` with the places if nobody is at any; else what `dial` says of the first where there is somebody.
    pub(super) fn find<T>(&self, mut dial: impl FnMut(&Place) -> io::Result<T>) -> io::Result<T> {
        let file = match self {
            Search::At(place) => return dial(place),
            Search::InDirectories { file } => file,
        };
        let uid = rustix::process::geteuid().as_raw();
        for directory in directories(uid) {
            if !matches!(look(&directory, uid), Look::Private(_)) {
                continue;
            }
            let place = Place::Path(directory.join(file));
            if place.address().is_err() {
                continue;
            }
            match dial(&place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Err(nobody(file, uid))
    }

    /// Where a listener of this name has its socket, with a directory for it.
    pub(super) fn home(self) -> io::Result<Home> {
        let file = match self {
            Search::At(place) => {
                return Ok(Home {
                    place,
                    elsewhere: Vec::new(),
                });
            }
            Search::InDirectories { file } => file,
        };
        let uid = rustix::process::geteuid().as_raw();
        let mut home: Option<(Place, Identity)> = None;
        let mut elsewhere = Vec::new();
        let mut refused = Vec::new();
        for directory in directories(uid) {
            let found = match look(&directory, uid) {
                Look::Private(found) => found,
                _ if home.is_some() || !is_ours_to_make(&directory, uid) => continue,
                _ => match make(&directory, uid) {
                    Ok(made) => made,
                    Err(error) => {
                        refused.push(error);
                        continue;
                    }
                },
            };
            let place = Place::Path(directory.join(&file));
            match &home {
                None => home = Some((place, found)),
                // Not the same directory by another way.
                Some((_, home)) if *home != found => elsewhere.push(place),
                Some(_) => {}
            }
        }
        match home {
            Some((place, _)) => Ok(Home { place, elsewhere }),
            // One of them at least is a listener's to make.
            None => Err(refused
                .into_iter()
                .next()
                .unwrap_or_else(|| nobody(&file, uid))),
        }
    }
}

/// Where a listener has its socket, and where else its name may be served already.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) place: Place,
    pub(super) elsewhere: Vec<Place>,
}

/// The directories of the user's own sockets: where a listener looks for its place, and clients for listeners.
fn directories(uid: u32) -> impl Iterator<Item = PathBuf> {
    let mut before: Vec<PathBuf> = Vec::new();
    (0..4)
        .filter_map(move |n| match n {
            0 => env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            1 => Some(format!("/run/user/{uid}").into()),
            2 => Some(in_temporary(env::temp_dir(), uid)),
            // Others may have another temporary directory, or none that they know of.
            _ => Some(in_temporary("/tmp".into(), uid)),
        })
        .filter(move |directory| {
            let is_new = directory.is_absolute() && !before.contains(directory);
            if is_new {
                before.push(directory.clone());
            }
            is_new
        })
}

fn in_temporary(temporary: PathBuf, uid: u32) -> PathBuf {
    temporary.join(format!("pipetalk-{uid}"))
}

/// Whether a listener may make the directory if it is missing: the others are the system's to make.
fn is_ours_to_make(directory: &Path, uid: u32) -> bool {
    directory.file_name() == Some(format!("pipetalk-{uid}").as_ref())
}

/// The device and the number of a file.
type Identity = (u64, u64);

/// What there is of a directory.
#[derive(Debug)]
enum Look {
    /// It is the user's, and nobody else can enter it.
    Private(Identity),
    Missing,
    /// It is not to be used, and why.
    Unfit(String),
}

fn look(directory: &Path, uid: u32) -> Look {
    let found = match directory.symlink_metadata() {
        Ok(found) => found,
        Err(error) if is_missing(&error) => return Look::Missing,
        Err(error) => return Look::Unfit(error.to_string()),
    };
    let mode = found.mode() & 0o777;
    Look::Unfit(if found.is_symlink() {
        "it is a link".to_owned()
    } else if !found.is_dir() {
        "it is no directory".to_owned()
    } else if found.uid() != uid {
        format!("it is user {}'s", found.uid())
    } else if mode & 0o077 != 0 {
        format!("others can enter it: its mode is {mode:04o}")
    } else if mode != 0o700 {
        format!("its own user cannot use it: its mode is {mode:04o}")
    } else {
        return Look::Private((found.dev(), found.ino()));
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Makes the directory, and mends the mode of one that nobody could use.
fn make(directory: &Path, uid: u32) -> io::Result<Identity> {
    let say = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot make {}: {error}", directory.display()),
        )
    };
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(say(error)),
    }
    // What the umask took away when this was made, or long before. Whom it let in then has been inside, and whatever it
    // is has to stay refused.
    let entry = Entry::at(directory).map_err(say)?;
    let found = entry.metadata().map_err(say)?;
    let mode = found.mode() & 0o777;
    if found.is_dir() && found.uid() == uid && mode & 0o077 == 0 && mode != 0o700 {
        entry.set_mode(0o700).map_err(say)?;
    }
    let why = match look(directory, uid) {
        Look::Private(found) => return Ok(found),
        Look::Missing => "it is gone again".to_owned(),
        Look::Unfit(why) => why,
    };
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} is not a directory of user {uid} with mode 0700, so no socket in it would be safe: {why}",
            directory.display()
        ),
    ))
}

/// Says where nobody was found.
fn nobody(file: &str, uid: u32) -> io::Error {
    let mut places = Vec::new();
    let mut passed_over = String::new();
    let mut too_long = None;
    for directory in directories(uid) {
        let place = Place::Path(directory.join(file));
        match (place.address(), look(&directory, uid)) {
            (Err(error), _) => too_long = Some(error),
            (Ok(_), Look::Unfit(why)) => {
                passed_over += &format!("; {} is passed over: {why}", directory.display());
            }
            (Ok(_), _) => places.push(place.to_string()),
        }
    }
    match too_long {
        Some(error) if places.is_empty() => return error,
        _ if places.is_empty() => places.push(file.to_owned()),
        _ => {}
    }
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("nobody listens at {}{passed_over}", places.join(" or ")),
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::test_util::Directory;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn n03_a_path_over_the_limit_is_refused_with_the_limit_and_the_length() {
        let fits = format!("/{}", "x".repeat(os::MAX_PATH - 1));
        Place::Path(fits.clone().into()).address().unwrap();
        let error = Place::Path(format!("{fits}y").into())
            .address()
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains(&os::MAX_PATH.to_string())
                && text.contains(&(os::MAX_PATH + 1).to_string()),
            "{text}"
        );
    }

    #[test]
    fn n05_a_relative_path_is_made_absolute_where_that_fits() {
        let here = env::current_dir().unwrap();
        let place = Place::at(Path::new("./a.sock"));
        assert_eq!(place.path().unwrap(), here.join("a.sock"));
        assert_eq!(place.to_string(), here.join("a.sock").display().to_string());
        assert!(place.lasting_address().is_some());
        // As long as it may be: with its directory before it, it is too long.
        let long = "x".repeat(os::MAX_PATH);
        let place = Place::at(Path::new(&long));
        assert_eq!(place.path().unwrap(), here.join(&long));
        place.address().unwrap();
        assert!(place.lasting_address().is_none());
        // An absolute path has no shorter form.
        let place = Place::at(&here.join(&long));
        assert_eq!(
            place.address().unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn n05_n06_pipe_paths_mean_the_portable_name_or_are_unsupported() {
        let search = |name: &str| Search::new(&Name::new(name).unwrap());
        let place = |name: &str| {
            let mut first = None;
            let _ = search(name).unwrap().find(|place| {
                first.get_or_insert(place.to_string());
                Err::<(), _>(io::Error::from(io::ErrorKind::NotFound))
            });
            first
        };
        let home = search("acme.kv").unwrap().home().unwrap();
        let portable = home.place.to_string();
        assert!(portable.ends_with("/acme.kv.sock"), "{portable}");
        for same in ["acme.kv", r"\\.\pipe\Acme.kv", r"\\.\pipe\LOCAL\acme.kv"] {
            assert_eq!(place(same).as_deref(), Some(&*portable), "{same}");
        }
        for other in [r"\\server\pipe\acme.kv", r"\\.\pipe\a\b"] {
            assert_eq!(
                search(other).unwrap_err().kind(),
                io::ErrorKind::Unsupported
            );
        }
    }

    #[test]
    fn a_directory_that_others_can_enter_or_a_link_is_not_private() {
        let uid = rustix::process::geteuid().as_raw();
        let unfit = |path: &Path, uid: u32, word: &str| match look(path, uid) {
            Look::Unfit(why) => assert!(why.contains(word), "{why}"),
            other => panic!("{other:?}"),
        };
        let directory = Directory::new();
        let path = directory.path();
        set_mode(path, 0o700);
        assert!(matches!(look(path, uid), Look::Private(_)));
        unfit(path, uid + 1, &uid.to_string());
        let link = path.join("link");
        symlink(path, &link).unwrap();
        unfit(&link, uid, "link");
        let file = path.join("file");
        fs::write(&file, "").unwrap();
        unfit(&file, uid, "no directory");
        for missing in [path.join("missing"), file.join("missing")] {
            assert!(matches!(look(&missing, uid), Look::Missing));
        }
        set_mode(path, 0o710);
        unfit(path, uid, "0710");
        set_mode(path, 0o600);
        unfit(path, uid, "0600");
        set_mode(path, 0o700);
    }

    #[test]
    fn a_directory_of_ours_that_its_own_user_cannot_use_is_mended_and_no_other() {
        let uid = rustix::process::geteuid().as_raw();
        let parent = Directory::new();
        let path = parent.path().join(format!("pipetalk-{uid}"));
        let identity = make(&path, uid).unwrap();
        for mode in [0o000, 0o600, 0o300] {
            set_mode(&path, mode);
            assert_eq!(make(&path, uid).unwrap(), identity);
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        }
        // Somebody else may have been inside.
        for mode in [0o755, 0o770, 0o711] {
            set_mode(&path, mode);
            let error = make(&path, uid).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(
                error.to_string().contains(&format!("{mode:04o}")),
                "{error}"
            );
            assert_eq!(path.metadata().unwrap().mode() & 0o777, mode);
        }
        // Nor is a link followed to a directory that could be mended.
        let (target, link) = (parent.path().join("target"), parent.path().join("link"));
        fs::create_dir(&target).unwrap();
        set_mode(&target, 0o600);
        symlink(&target, &link).unwrap();
        make(&link, uid).unwrap_err();
        assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o600);
        set_mode(&target, 0o700);
        set_mode(&path, 0o700);
    }
}
