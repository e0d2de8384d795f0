//! A guest of one sector, for tests that need no Linux: it beats on the first serial port 500 times a second, about
//! 130 ms after QEMU was started, and dirties 256 KiB over and over, looking each time whether the page still holds what
//! it wrote there 64 beats ago.
//!
//! Its lines are `ferry-guest beat seq=N`; when a page is not what it must be, the `=` turns into an `x`, which
//! [`crate::serial`] takes for an anomaly. It halts between beats, so it costs the host next to nothing. It takes no
//! commands and knows no power button.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes of a sector; the last two are the signature that makes it bootable.
const SECTOR: usize = 512;

/// The guest's period, microseconds: 2386 ticks of a clock of 1.193182 MHz.
pub const BEAT_US: u64 = 2000;

/// Size of the image, bytes. A disk of one sector is legal, but a whole MiB is what tools expect.
const IMAGE_SIZE: usize = 1024 * 1024;

/// 16-bit code, loaded at 0x7c00. `ebp` holds the number of the beat.
#[rustfmt::skip]
const CODE: &[u8] = &[
    // The firmware's state, made ours: all segments 0, the stack below the code.
    0xfa,                               // 7c00        cli
    0x31, 0xc0,                         // 7c01        xor  ax, ax
    0x8e, 0xd8,                         // 7c03        mov  ds, ax
    0x8e, 0xd0,                         // 7c05        mov  ss, ax
    0xbc, 0x00, 0x7c,                   // 7c07        mov  sp, 0x7c00
    0xfc,                               // 7c0a        cld
    // The timer's interrupt (vector 8) comes to `tick`.
    0xc7, 0x06, 0x20, 0x00, 0x9c, 0x7c, // 7c0b        mov  word [0x20], tick
    0xa3, 0x22, 0x00,                   // 7c11        mov  [0x22], ax
    // Timer channel 0, both bytes, rate generator: divide by 0x0952.
    0xb0, 0x34,                         // 7c14        mov  al, 0x34
    0xe6, 0x43,                         // 7c16        out  0x43, al
    0xb0, 0x52,                         // 7c18        mov  al, 0x52
    0xe6, 0x40,                         // 7c1a        out  0x40, al
    0xb0, 0x09,                         // 7c1c        mov  al, 0x09
    0xe6, 0x40,                         // 7c1e        out  0x40, al
    // No interrupt but the timer's.
    0xb0, 0xfe,                         // 7c20        mov  al, 0xfe
    0xe6, 0x21,                         // 7c22        out  0x21, al
    0x66, 0x31, 0xed,                   // 7c24        xor  ebp, ebp
    // One of 64 pages from 0x20000 on, by turns.
    0x66, 0x45,                         // 7c27 beat:  inc  ebp
    0x89, 0xe8,                         // 7c29        mov  ax, bp
    0x83, 0xe0, 0x3f,                   // 7c2b        and  ax, 63
    0xc1, 0xe0, 0x08,                   // 7c2e        shl  ax, 8
    0x05, 0x00, 0x20,                   // 7c31        add  ax, 0x2000
    0x8e, 0xc0,                         // 7c34        mov  es, ax
    // It must hold the number of 64 beats ago, once there was such a beat.
    0x66, 0x89, 0xe8,                   // 7c36        mov  eax, ebp
    0x66, 0x83, 0xe8, 0x40,             // 7c39        sub  eax, 64
    0x7e, 0x0a,                         // 7c3d        jle  fresh
    0xb3, 0x78,                         // 7c3f        mov  bl, 'x'
    0x26, 0x66, 0x39, 0x06, 0x00, 0x00, // 7c41        cmp  [es:0], eax
    0x75, 0x02,                         // 7c47        jne  speak
    0xb3, 0x3d,                         // 7c49 fresh: mov  bl, '='
    0x26, 0x66, 0x89, 0x2e, 0x00, 0x00, // 7c4b speak: mov  [es:0], ebp
    // The text, with bl for its '='.
    0xbe, 0xa3, 0x7c,                   // 7c51        mov  si, text
    0xac,                               // 7c54 next:  lodsb
    0x84, 0xc0,                         // 7c55        test al, al
    0x74, 0x0b,                         // 7c57        jz   number
    0x3c, 0x3d,                         // 7c59        cmp  al, '='
    0x75, 0x02,                         // 7c5b        jne  plain
    0x88, 0xd8,                         // 7c5d        mov  al, bl
    0xe8, 0x2c, 0x00,                   // 7c5f plain: call put
    0xeb, 0xf0,                         // 7c62        jmp  next
    // The number, decimal: digits come last first, so they go over the stack.
    0x66, 0x89, 0xe8,                   // 7c64 number: mov eax, ebp
    0x66, 0xbb, 0x0a, 0x00, 0x00, 0x00, // 7c67        mov  ebx, 10
    0x31, 0xc9,                         // 7c6d        xor  cx, cx
    0x66, 0x31, 0xd2,                   // 7c6f divide: xor edx, edx
    0x66, 0xf7, 0xf3,                   // 7c72        div  ebx
    0x52,                               // 7c75        push dx
    0x41,                               // 7c76        inc  cx
    0x66, 0x85, 0xc0,                   // 7c77        test eax, eax
    0x75, 0xf3,                         // 7c7a        jnz  divide
    0x58,                               // 7c7c digit: pop  ax
    0x04, 0x30,                         // 7c7d        add  al, '0'
    0xe8, 0x0c, 0x00,                   // 7c7f        call put
    0xe2, 0xf8,                         // 7c82        loop digit
    0xb0, 0x0a,                         // 7c84        mov  al, '\n'
    0xe8, 0x05, 0x00,                   // 7c86        call put
    // Until the next tick.
    0xfb,                               // 7c89        sti
    0xf4,                               // 7c8a        hlt
    0xfa,                               // 7c8b        cli
    0xeb, 0x99,                         // 7c8c        jmp  beat
    // al to COM1, when its holding register is empty.
    0x50,                               // 7c8e put:   push ax
    0xba, 0xfd, 0x03,                   // 7c8f        mov  dx, 0x3fd
    0xec,                               // 7c92 wait:  in   al, dx
    0xa8, 0x20,                         // 7c93        test al, 0x20
    0x74, 0xfb,                         // 7c95        jz   wait
    0xb2, 0xf8,                         // 7c97        mov  dl, 0xf8
    0x58,                               // 7c99        pop  ax
    0xee,                               // 7c9a        out  dx, al
    0xc3,                               // 7c9b        ret
    // The interrupt is acknowledged, nothing more: it ends the halt.
    0x50,                               // 7c9c tick:  push ax
    0xb0, 0x20,                         // 7c9d        mov  al, 0x20
    0xe6, 0x20,                         // 7c9f        out  0x20, al
    0x58,                               // 7ca1        pop  ax
    0xcf,                               // 7ca2        iret
];

/// What stands behind the code, at 7ca3.
const TEXT: &[u8] = b"ferry-guest beat seq=\0";

/// Another guest, that only gives back what it is told on the first serial port, capitals for small letters: what comes
/// back is its own word, not a terminal's echo.
#[rustfmt::skip]
const ECHO: &[u8] = &[
    0xfa,                               // 7c00        cli
    0xba, 0xfd, 0x03,                   // 7c01 next:  mov  dx, 0x3fd
    0xec,                               // 7c04 wait:  in   al, dx
    0xa8, 0x01,                         // 7c05        test al, 1
    0x74, 0xfb,                         // 7c07        jz   wait
    0xb2, 0xf8,                         // 7c09        mov  dl, 0xf8
    0xec,                               // 7c0b        in   al, dx
    0x34, 0x20,                         // 7c0c        xor  al, 0x20
    0xee,                               // 7c0e        out  dx, al
    0xeb, 0xf0,                         // 7c0f        jmp  next
];

/// A guest without anything to do.
#[rustfmt::skip]
const IDLE: &[u8] = &[
    0xfa,                               // 7c00        cli
    0xf4,                               // 7c01 next:  hlt
    0xeb, 0xfd,                         // 7c02        jmp  next
];

/// The image of a raw disk that boots into the guest.
pub fn image() -> Vec<u8> {
    bootable(&[CODE, TEXT].concat())
}

/// The image of a raw disk that boots into a guest that gives back in capitals what it is told on its first serial port.
pub fn echo_image() -> Vec<u8> {
    bootable(ECHO)
}

/// The image of a raw disk that boots into a guest that halts for ever, so that many of them cost little.
pub fn idle_image() -> Vec<u8> {
    bootable(IDLE)
}

fn bootable(code: &[u8]) -> Vec<u8> {
    let mut image = code.to_vec();
    image.resize(SECTOR - 2, 0);
    image.extend([0x55, 0xaa]);
    image.resize(IMAGE_SIZE, 0);
    image
}

/// Writes the image to `path`.
///
/// # Errors
/// [`Error::Io`].
pub fn write_image(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref().to_path_buf();
    std::fs::write(&path, image()).map_err(Error::io(format!("writing {path:?}")))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_in_the_code_point_where_they_should() {
        let at = |address: usize| usize::from(u16::from_le_bytes([CODE[address], CODE[address + 1]]));
        let text = at(0x7c52 - 0x7c00) - 0x7c00;
        let tick = at(0x7c0f - 0x7c00) - 0x7c00;
        assert_eq!(text, CODE.len());
        assert_eq!(CODE[tick..], [0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]);
        let image = image();
        assert_eq!(&image[text..text + TEXT.len()], TEXT);
        assert_eq!(image[SECTOR - 2..SECTOR], [0x55, 0xaa]);
    }
}
