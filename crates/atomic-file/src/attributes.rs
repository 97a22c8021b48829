//! Who a file belongs to and what may be done with it.

use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

/// The extended attributes a new file takes over: labels of security modules, and the access
/// control list. Others describe the content (`security.ima`) or are not for us to give.
const LABELS: [&CStr; 2] = [c"security.selinux", c"security.SMACK64"];
const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// The most the kernel keeps in one extended attribute, and in a list of them (xattr(7)).
const XATTR_MAX: usize = 65536;

/// Who a file belongs to and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// User id; `None`: that of the process.
    pub owner: Option<u32>,
    /// Group id; `None`: what the system gives to a new file there.
    pub group: Option<u32>,
    /// Permission bits, whatever the process's umask says.
    pub mode: u32,
    pub(crate) extended: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    /// Of a file of the process's own.
    #[must_use]
    pub const fn with_mode(mode: u32) -> Self {
        Self { owner: None, group: None, mode, extended: Vec::new() }
    }

    /// Those of `file`: owner, group, mode, access control list and security label.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut extended = Vec::new();
        for name in names(file)? {
            if LABELS.contains(&name.as_c_str()) || name.as_c_str() == ACCESS_LIST {
                let mut value = vec![0; XATTR_MAX];
                let length = fgetxattr(file, &name, &mut value[..])?;
                value.truncate(length);
                extended.push((name, value));
            }
        }
        Ok(Self {
            owner: Some(metadata.uid()),
            group: Some(metadata.gid()),
            mode: metadata.mode() & 0o7777,
            extended,
        })
    }

    /// Without the access control list, which lets in others than the mode does.
    #[must_use]
    pub fn without_access_list(mut self) -> Self {
        self.extended.retain(|(name, _)| name.as_c_str() != ACCESS_LIST);
        self
    }

    pub(crate) fn give_to(&self, file: &File) -> io::Result<()> {
        let now = file.metadata()?;
        let owner = self.owner.filter(|&owner| owner != now.uid());
        let group = self.group.filter(|&group| group != now.gid());
        if owner.is_some() || group.is_some() {
            fchown(file, owner, group)?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))?;
        for (name, value) in &self.extended {
            match fsetxattr(file, name, value, XattrFlags::empty()) {
                Ok(()) => {}
                // The kernel has given the new file the label that its rules say; that another
                // may be chosen is the privilege of few.
                Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP)
                    if LABELS.contains(&name.as_c_str()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn names(file: &File) -> io::Result<Vec<CString>> {
    let mut list = vec![0_u8; XATTR_MAX];
    let length = match flistxattr(file, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    list.truncate(length);
    Ok(list.split(|&byte| byte == 0).filter_map(|name| CString::new(name).ok()).collect())
}
