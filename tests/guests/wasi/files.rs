//! Defines an app that works on files: `?path=/data/x` reads, `&write=TEXT` writes, `&list` lists,
//! `&remove` removes; without a path it lists the directories that it was granted. A refusal is 404
//! (no-entry) or 403, and its body the name of the error code. Paths go to the host as they come,
//! `..` and all.

use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let Some(path) = guests::parameter(&request, "path") else {
        let granted = preopens::get_directories()
            .into_iter()
            .map(|(_, at)| format!("{at}\n"));
        return guests::answer(outparam, 200, granted.collect::<String>());
    };
    let Some((directory, rest)) = granted(&path) else {
        return guests::answer(outparam, 403, "not-granted\n");
    };
    match perform(&request, &directory, &rest) {
        Ok(text) => guests::answer(outparam, 200, text),
        Err(ErrorCode::NoEntry) => guests::answer(outparam, 404, "no-entry\n"),
        Err(code) => guests::answer(outparam, 403, format_args!("{}\n", code.name())),
    }
}

/// The granted directory that is the longest prefix of `path`, and what follows it.
fn granted(path: &str) -> Option<(Descriptor, String)> {
    preopens::get_directories()
        .into_iter()
        .filter_map(|(directory, at)| {
            let rest = path.strip_prefix(at.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| {
                let rest = rest.trim_start_matches('/');
                (
                    at.len(),
                    directory,
                    if rest.is_empty() { "." } else { rest }.to_owned(),
                )
            })
        })
        .max_by_key(|(length, ..)| *length)
        .map(|(_, directory, rest)| (directory, rest))
}

fn perform(
    request: &IncomingRequest,
    directory: &Descriptor,
    path: &str,
) -> Result<String, ErrorCode> {
    if let Some(text) = guests::parameter(request, "write") {
        write(directory, path, text.as_bytes())
    } else if guests::parameter(request, "list").is_some() {
        list(directory, path)
    } else if guests::parameter(request, "remove").is_some() {
        directory
            .unlink_file_at(path)
            .map(|()| "removed\n".to_owned())
    } else {
        read(directory, path)
    }
}

fn read(directory: &Descriptor, path: &str) -> Result<String, ErrorCode> {
    let file = directory.open_at(
        PathFlags::SYMLINK_FOLLOW,
        path,
        OpenFlags::empty(),
        DescriptorFlags::READ,
    )?;
    let mut bytes = Vec::new();
    loop {
        let (piece, end) = file.read(guests::READ_MAX, bytes.len() as u64)?;
        bytes.extend_from_slice(&piece);
        if end {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

fn write(directory: &Descriptor, path: &str, bytes: &[u8]) -> Result<String, ErrorCode> {
    let file = directory.open_at(
        PathFlags::SYMLINK_FOLLOW,
        path,
        OpenFlags::CREATE | OpenFlags::TRUNCATE,
        DescriptorFlags::WRITE,
    )?;
    let written = file.write(bytes, 0)?;
    Ok(format!("wrote {written}\n"))
}

fn list(directory: &Descriptor, path: &str) -> Result<String, ErrorCode> {
    let flags = DescriptorFlags::READ;
    let entries = directory
        .open_at(PathFlags::empty(), path, OpenFlags::DIRECTORY, flags)?
        .read_directory()?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry()? {
        names.push(format!("{}\n", entry.name));
    }
    names.sort();
    Ok(names.concat())
}
