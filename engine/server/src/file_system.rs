//! Checks what the file system of a queue promises: whether synced data survives a loss of power.
//!
//! The type and mount options decide. O_DIRECT says nothing: tmpfs and overlays on it accept it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::log::{Log, name};

/// Most layers to look through: overlays on overlays, images on overlays.
const LAYERS_MAX: u8 = 4;

/// A file system, and what it promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// As the kernel names it, such as `ext4`.
    pub(crate) kind: String,
    pub(crate) durability: Durability,
}

/// Whether what was synced survives a loss of power, as far as the local kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Kept,
    /// It does not; the reason.
    Lost(String),
    /// Something else decides; its name.
    Unknown(String),
}

impl Durability {
    /// As metrics and JSON lines name it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Kept => "yes",
            Self::Lost(_) => "no",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl FileSystem {
    /// That of `path`, or where there is no such file yet, of the directory that it would be made in.
    ///
    /// # Errors
    /// No directory above it can be opened.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Self::below(path, LAYERS_MAX)
    }

    fn below(path: &Path, layers: u8) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut result = Err(io::ErrorKind::NotFound.into());
        for place in path.ancestors() {
            // O_PATH would do, but a directory that cannot be read cannot be a queue either.
            result = File::open(place);
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        let file = result?;
        let mount = Mount::of(&file).map_or_else(|| Mount::from_type(&file), Ok)?;
        Ok(Self { durability: mount.durability(layers), kind: mount.kind })
    }

    /// What an operator should know of a directory of the queue that is on it.
    pub(crate) fn warning(&self, directory: &Path) -> Option<String> {
        let what = match &self.durability {
            Durability::Kept => return None,
            Durability::Lost(reason) => {
                format!("{reason}: accepted mail is lost if the machine loses power")
            }
            Durability::Unknown(reason) => {
                format!("{reason}: whether accepted mail survives a power failure depends on it")
            }
        };
        Some(format!(
            "{} is on {}, {what}; set directory in [queue] to one on a local disk with ext4, XFS or btrfs",
            directory.display(),
            self.kind
        ))
    }
}

/// A directory of the queue and its file system, for metrics.
#[derive(Clone, Debug)]
pub(crate) struct QueuePart {
    /// `queue`, `segments` or `maildrop`.
    pub(crate) name: &'static str,
    pub(crate) file_system: FileSystem,
}

/// Looks at the directories of the queue in `root`, and warns once of each file system that may not keep mail.
pub(crate) fn inspect(root: &Path, log: &Log) -> Vec<QueuePart> {
    let mut parts: Vec<QueuePart> = Vec::new();
    for (name, path) in
        [("queue", root.to_owned()), ("segments", root.join("segments")), ("maildrop", root.join("maildrop"))]
    {
        let file_system = match FileSystem::of(&path) {
            Ok(file_system) => file_system,
            Err(error) => {
                let reason = format!("cannot be looked at ({error})");
                FileSystem { kind: "unknown".to_owned(), durability: Durability::Unknown(reason) }
            }
        };
        let is_new = parts.iter().all(|part| part.file_system != file_system);
        if let Some(message) = file_system.warning(&path).filter(|_| is_new) {
            log.warning(name::FILE_SYSTEM, message)
                .text("path", path.into_os_string().into_vec())
                .text("type", &file_system.kind)
                .text("durable", file_system.durability.name());
        }
        parts.push(QueuePart { name, file_system });
    }
    parts
}

/// A mount, as `/proc/self/mountinfo` has it (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mount {
    /// The block device: `major:minor`.
    device: String,
    kind: String,
    /// Those of the mount and those of the file system.
    options: Vec<String>,
}

impl Mount {
    /// That of an open file, by the mount's id, for a path can be mounted over and btrfs has devices of its own.
    fn of(file: &File) -> Option<Self> {
        let of_file = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let id = of_file.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        // Names in it may be of any bytes.
        let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
        let mounts = String::from_utf8_lossy(&mounts);
        mounts.lines().filter(|line| line.split(' ').next() == Some(id)).find_map(Self::parse)
    }

    /// Where /proc is missing: by the type alone.
    fn from_type(file: &File) -> io::Result<Self> {
        let number = rustix::fs::fstatfs(file)?.f_type;
        let kind = TYPES.iter().find(|(known, _)| *known == number);
        let kind = kind.map_or_else(|| format!("type {number:#x}"), |(_, kind)| (*kind).to_owned());
        Ok(Self { kind, ..Self::default() })
    }

    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let [device, options] = {
            let mut fields = mount.split(' ');
            [fields.nth(2)?, fields.nth(2)?]
        };
        let mut fields = file_system.split(' ');
        let (kind, more) = (fields.next()?, fields.nth(1)?);
        let options = options.split(',').chain(more.split(',')).map(str::to_owned).collect();
        Some(Self { device: device.to_owned(), kind: kind.to_owned(), options })
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }

    fn durability(&self, layers: u8) -> Durability {
        let lost = |reason: &str| Durability::Lost(reason.to_owned());
        let unknown = |reason: &str| Durability::Unknown(reason.to_owned());
        let no_barrier = ["nobarrier", "barrier=0", "barrier=off", "barrier=none", "fsync_mode=nobarrier"];
        if let Some(option) = no_barrier.into_iter().find(|option| self.has(option)) {
            return lost(&format!("mounted with {option}, which leaves synced data in the disk's cache"));
        }
        match self.kind.as_str() {
            "tmpfs" | "ramfs" | "rootfs" | "devtmpfs" | "hugetlbfs" => {
                lost("which keeps files only in memory")
            }
            "overlay" if self.has("volatile") => lost("mounted with volatile, which ignores each sync"),
            "overlay" => self.upper(layers),
            "cifs" | "smb3" if self.has("nostrictsync") => {
                lost("mounted with nostrictsync, which keeps each sync from the server")
            }
            "nfs" | "nfs4" => {
                unknown("whose server may acknowledge what it has not written (export option async)")
            }
            "cifs" | "smb3" | "afs" | "ceph" | "lustre" | "gfs2" | "ocfs2" | "vboxsf" | "9p" | "virtiofs" => {
                unknown("which another machine provides")
            }
            fuse if fuse == "fuse" || fuse == "fuseblk" || fuse.starts_with("fuse.") => {
                unknown("which a program provides")
            }
            "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "bcachefs" | "jfs" | "nilfs2"
            | "reiserfs" => self.of_device(layers),
            // Its property sync=disabled cannot be seen; all else syncs.
            "zfs" => Durability::Kept,
            _ => unknown("which is not known to keep synced data"),
        }
    }

    /// What an overlay writes goes to its upper directory.
    fn upper(&self, layers: u8) -> Durability {
        let upper = self.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        // Without one nothing can be written.
        let Some(upper) = upper else { return Durability::Kept };
        let upper = unescape(upper);
        match Self::layer(&upper, layers) {
            Some(FileSystem { kind, durability: Durability::Lost(reason) }) => {
                Durability::Lost(format!("whose upper directory is on {kind}, {reason}"))
            }
            Some(FileSystem { kind, durability: Durability::Unknown(reason) }) => {
                Durability::Unknown(format!("whose upper directory is on {kind}, {reason}"))
            }
            Some(_) => Durability::Kept,
            None => Durability::Unknown("whose upper directory is not visible".to_owned()),
        }
    }

    /// A disk may be one in memory, or a file on another file system.
    fn of_device(&self, layers: u8) -> Durability {
        let device = Path::new("/sys/dev/block").join(&self.device);
        let name = std::fs::canonicalize(&device).ok().and_then(|path| Some(path.file_name()?.to_owned()));
        let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if ["ram", "zram"].iter().any(|memory| name.strip_prefix(memory).is_some_and(is_number)) {
            return Durability::Lost(format!("whose disk {name} is in memory"));
        }
        let Ok(image) = std::fs::read_to_string(device.join("loop/backing_file")) else {
            return Durability::Kept;
        };
        match Self::layer(Path::new(image.trim_end()), layers) {
            Some(FileSystem { kind, durability: Durability::Lost(reason) }) => {
                Durability::Lost(format!("whose image is on {kind}, {reason}"))
            }
            Some(FileSystem { kind, durability: Durability::Unknown(reason) }) => {
                Durability::Unknown(format!("whose image is on {kind}, {reason}"))
            }
            // An image that cannot be seen was on a disk when it was set up.
            Some(_) | None => Durability::Kept,
        }
    }

    /// The file system of the layer at `path`; `None` if it cannot be seen from here.
    fn layer(path: &Path, layers: u8) -> Option<FileSystem> {
        if layers == 0 || !path.exists() {
            return None;
        }
        FileSystem::below(path, layers - 1).ok()
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the path that the kernel has written with octal escapes, and overlayfs with backslashes before commas and colons.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match (byte, digits) {
            (b'\\', Some(digits)) => {
                let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = after.get(3..).unwrap_or_default();
            }
            (b'\\', None) if matches!(after.first(), Some(b',' | b':' | b'\\')) => rest = after,
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Numbers of types, of statfs(2).
const TYPES: [(i64, &str); 16] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb3"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x4d44, "vfat"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &str) -> Mount {
        let line = format!("36 35 0:99 / /mnt rw,noatime master:1 - {kind} none {options}");
        Mount::parse(&line).unwrap()
    }

    #[test]
    fn parses_the_kernels_list_of_mounts() {
        let line =
            r"29 1 8:1 /a\040b /mnt\0401 rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro";
        let wanted = Mount {
            device: "8:1".to_owned(),
            kind: "ext4".to_owned(),
            options: ["rw", "relatime", "rw", "errors=remount-ro"].map(str::to_owned).to_vec(),
        };
        assert_eq!(Mount::parse(line), Some(wanted));
        let line = "29 1 0:5 / / rw - tmpfs tmpfs rw";
        assert_eq!(Mount::parse(line).unwrap().kind, "tmpfs");
        assert_eq!(unescape(r"/a\040b\134c/\,d"), Path::new(r"/a b\c/,d"));
    }

    #[test]
    fn each_type_has_its_durability() {
        for (kind, options, wanted) in [
            ("tmpfs", "rw", "no"),
            ("ramfs", "rw", "no"),
            ("ext4", "rw,data=writeback", "yes"),
            ("ext4", "rw,nobarrier", "no"),
            ("ext3", "rw,barrier=0", "no"),
            ("f2fs", "rw,fsync_mode=nobarrier", "no"),
            ("f2fs", "rw,fsync_mode=posix", "yes"),
            ("xfs", "rw,noquota", "yes"),
            ("btrfs", "rw,nodatacow,nodatasum", "yes"),
            ("zfs", "rw,xattr,noacl", "yes"),
            ("nfs4", "rw,vers=4.2,sync", "unknown"),
            ("cifs", "rw", "unknown"),
            ("cifs", "rw,nostrictsync", "no"),
            ("9p", "rw,cache=loose", "unknown"),
            ("virtiofs", "rw", "unknown"),
            ("fuse.sshfs", "rw", "unknown"),
            ("fuseblk", "rw", "unknown"),
            ("vfat", "rw", "unknown"),
            ("overlay", "rw,lowerdir=/a,upperdir=/no/such/directory,workdir=/b", "unknown"),
            ("overlay", "rw,lowerdir=/a,upperdir=/,workdir=/b,volatile", "no"),
            ("overlay", "ro,lowerdir=/a:/b", "yes"),
        ] {
            assert_eq!(mount(kind, options).durability(LAYERS_MAX).name(), wanted, "{kind} {options}");
        }
    }

    #[test]
    fn a_missing_directory_is_on_the_file_system_of_its_parent() {
        let directory = std::env::temp_dir();
        let there = FileSystem::of(&directory).unwrap();
        assert_eq!(FileSystem::of(&directory.join("mailrace-none/such/queue")).unwrap(), there);
    }

    #[test]
    fn types_are_known_without_a_list_of_mounts() {
        let root = File::open("/proc").unwrap();
        assert_eq!(Mount::from_type(&root).unwrap().kind, "type 0x9fa0");
        assert_eq!(Mount::of(&root).unwrap().kind, "proc");
    }

    #[test]
    fn a_warning_says_what_happens_and_how_to_stop_it() {
        let memory = FileSystem { kind: "tmpfs".to_owned(), durability: mount("tmpfs", "rw").durability(1) };
        assert_eq!(
            memory.warning(Path::new("/run/q")).unwrap(),
            "/run/q is on tmpfs, which keeps files only in memory: accepted mail is lost if the machine loses \
             power; set directory in [queue] to one on a local disk with ext4, XFS or btrfs"
        );
        let disk = FileSystem { kind: "xfs".to_owned(), durability: Durability::Kept };
        assert_eq!(disk.warning(Path::new("/q")), None);
    }
}
