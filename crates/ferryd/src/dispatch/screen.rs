//! A picture of the guest's screen, as a stream.
//!
//! QEMU writes it into a file of its run folder; the file has no name any more before the first byte of it goes out.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ferry_qmp::commands::console::Screendump;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::DomainScreenshot;
use uuid::Uuid;

use super::{Context, accept_flags, running};
use crate::listen::{Pump, Received, Stream};
use crate::refuse;

/// Bytes of one piece of the stream.
const PIECE: usize = 256 * 1024;

/// The largest picture: three bytes a pixel, 16384 pixels each way, is not reached by any card.
const PICTURE_MAX: u64 = 256 << 20;

/// Takes a picture of a screen; the reply is its type.
pub(super) async fn shot(context: Context, call: DomainScreenshot) -> Result<(Option<String>, Pump), Error> {
    accept_flags(call.flags, 0, "qemuDomainScreenshot")?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let invalid = |text: &str| Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text);
    let videos = &live.domain.devices.videos;
    if videos.is_empty() {
        return Err(invalid("no screens to take screenshot from"));
    }
    let number = usize::try_from(call.screen).unwrap_or(usize::MAX);
    let video = videos.get(number).ok_or_else(|| invalid("no such screen ID"))?;
    // The first card needs no name: it is the one that QEMU shows.
    let device = video.info.alias.clone().filter(|_| call.screen > 0);
    let file = live.run_dir.path().join(format!("screen-{}", Uuid::new_v4().simple()));
    let dump = Screendump {
        filename: file.to_string_lossy().into_owned(),
        head: device.as_ref().map(|_| 0),
        device,
        format: Some("png".to_owned()),
    };
    let _removed = Removed(file.clone());
    live.monitor.execute(&dump).await.map_err(refuse::monitor)?;
    let picture = tokio::task::spawn_blocking(move || read(&file)).await;
    let picture = picture.map_err(|_| refuse::internal("the daemon is stopping"))?;
    let picture = picture.map_err(|error| refuse::system("unable to open the picture", &error))?;
    Ok((Some("image/png".to_owned()), Box::new(move |stream| Box::pin(send(stream, picture)))))
}

/// The file goes when this does, however far it came.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It is gone already, or was never there.
        let _ = fs::remove_file(&self.0);
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut picture = Vec::new();
    File::open(path)?.take(PICTURE_MAX).read_to_end(&mut picture)?;
    Ok(picture)
}

async fn send(mut stream: Stream, picture: Vec<u8>) {
    for piece in picture.chunks(PIECE) {
        if stream.send(piece.to_vec()).await.is_err() {
            return;
        }
    }
    if stream.end().await.is_err() {
        return;
    }
    while let Some(received) = stream.next().await {
        if matches!(received, Received::Finish) {
            return stream.finish().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::connection::far::{self, Came};

    #[tokio::test]
    async fn a_picture_goes_out_in_pieces_and_ends_with_the_clients_word() {
        let (stream, mut far) = far::stream();
        let picture: Vec<u8> = (0..PIECE + 7).map(|n| (n % 251) as u8).collect();
        let served = tokio::spawn(send(stream, picture.clone()));
        let mut came = Vec::new();
        loop {
            match far.next().await {
                Some(Came::Data(bytes)) => came.extend(bytes),
                Some(Came::End) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, picture);
        far.finish();
        assert_eq!(far.next().await, Some(Came::Finish));
        served.await.unwrap();
    }
}
