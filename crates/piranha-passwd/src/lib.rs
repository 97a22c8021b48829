//! The web page's password file: who may use the page.
//!
//! The file is Apache's (htpasswd(1)), and was so for as long as the page has existed; what is in
//! use anywhere is read ([`PasswordFile::verify`]), with every hash form that its tools have
//! written since 1999. New passwords are kept as bcrypt ([`set_password`]).

mod des_crypt;
mod entries;
mod file;
mod hash;
mod itoa64;
mod md5_crypt;
mod new_hash;
mod sha2_crypt;

pub use entries::{BadName, PasswordFile};
pub use file::{Error, load, set_password};
pub use hash::{Form, Unusable};
pub use new_hash::{BadPassword, check};

/// Where the page looks for it.
pub const PATH: &str = "/etc/sysconfig/ha/conf/piranha.passwd";

/// The page's user, in the file and on the system.
pub const USER: &str = "piranha";
