use super::*;
use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use ssd1306::size::{DisplaySize128x32, DisplaySize128x64};

fn screen(lines: &[&str], moved: (u8, u8)) -> Screen {
    Screen {
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        moved,
    }
}

/// Two rows of pixels in each line of text, as far as anything shines.
fn drawn(picture: &Picture, width: i32, height: i32) -> String {
    let lit = |x, y| picture.pixel(Point::new(x, y)) == Some(BinaryColor::On);
    let row = |y: i32| {
        let letters = (0..width).map(|x| match (lit(x, y), lit(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        letters.collect::<String>().trim_end().to_owned() + "\n"
    };
    (0..height).step_by(2).map(row).collect()
}

#[test]
fn text_is_drawn_letter_for_letter_degrees_included() {
    let picture = picture(&screen(&["51 °C", "7.4 t/s"], (0, 0)));
    assert_eq!("\n".to_owned() + &drawn(&picture, 48, 20), GOLDEN);
}

const GOLDEN: &str = "
▄▄▄▄▄   ▄           ▄    ▄▄▄
█ ▄▄  ▄▀█          ▀▄▀  █   ▀
▀▀  █   █               █
▀▄▄▄▀ ▄▄█▄▄             ▀▄▄▄▀

▄▄▄▄▄          ▄         ▄        ▄
   ▄▀        ▄▀█        ▄█▄▄     ▄▀  ▄▄▄
  ▄▀        █▄▄█▄        █     ▄▀   ▀▄▄▄
 █     ▄█▄     █         ▀▄▄▀ █     ▄▄▄▄▀
        ▀
";

#[test]
fn a_moved_screen_is_the_same_elsewhere() {
    let (there, moved) = (screen(&["Wg|"], (0, 0)), screen(&["Wg|"], (2, 1)));
    let (there, moved) = (picture(&there), picture(&moved));
    for (x, y) in (0..30).flat_map(|x| (0..20).map(move |y| (x, y))) {
        let before = there.pixel(Point::new(x, y));
        assert_eq!(before, moved.pixel(Point::new(x + 2, y + 1)), "{x}, {y}");
    }
}

#[test]
fn what_is_said_to_fit_fits_moved_as_far_as_it_goes() {
    let mut bus = Mock::new(&[]);
    let small = Ssd1306::new(bus.clone(), 0x3C, DisplaySize128x32);
    let large = Ssd1306::new(bus.clone(), 0x3C, DisplaySize128x64);
    assert_eq!((small.size(), large.size()), ((21, 3), (21, 6)));
    let (letters, lines) = large.size();
    let full = "M".repeat(letters);
    let all = vec![&*full; lines];
    let still = picture(&screen(&all, (0, 0)));
    let moved = picture(&screen(&all, (2, 2)));
    let lit = |picture: &Picture| {
        let points = (0..128).flat_map(|x| (0..64).map(move |y| Point::new(x, y)));
        points
            .filter(|at| picture.pixel(*at) == Some(BinaryColor::On))
            .count()
    };
    assert_eq!(lit(&still), lit(&moved));
    drop((small, large));
    bus.done();
}

fn write(bytes: &[u8]) -> Transaction {
    Transaction::write(0x3C, bytes.to_vec())
}

/// What a display of 32 rows is told when it is woken, then all its pixels dark.
fn woken() -> Vec<Transaction> {
    let mut all: Vec<_> = [
        &[0xAE][..],
        &[0xD5, 0x80],
        &[0xA8, 31],
        &[0xD3, 0],
        &[0x40],
        &[0x8D, 0x14],
        &[0x20, 0],
        &[0xDA, 0x02],
        &[0xA1],
        &[0xC8],
        &[0xD9, 0x21],
        &[0x81, 0x5F],
        &[0xDB, 0x40],
        &[0xA4],
        &[0xA6],
        &[0x2E],
        &[0xAF],
        &[0xD9, 0x21],
        &[0x81, 0x2F],
        &[0x21, 0, 127],
        &[0x22, 0, 3],
    ]
    .iter()
    .map(|command| write(&[&[0x00], *command].concat()))
    .collect();
    all.extend((0..32).map(|_| write(&[&[0x40][..], &[0; 16]].concat())));
    all
}

fn show(all: &[Transaction], steps: &[(Option<Screen>, Result<(), Fault>)]) {
    let mut bus = Mock::new(all);
    let mut display = Ssd1306::new(bus.clone(), 0x3C, DisplaySize128x32);
    for (screen, outcome) in steps {
        assert_eq!(display.show(screen.as_ref()), *outcome);
    }
    drop(display);
    bus.done();
}

#[test]
fn it_is_woken_and_sent_only_what_has_changed_and_darkened() {
    let mut all = woken();
    all.extend([
        // An `l` lights three columns of the first row of bytes.
        write(&[0x00, 0x21, 1, 3]),
        write(&[0x00, 0x22, 0, 0]),
        write(&[0x40, 0x82, 0xFE, 0x80]),
    ]);
    all.push(write(&[0x00, 0xAE]));
    let step = |lines: &[&str]| (Some(screen(lines, (0, 0))), Ok(()));
    show(&all, &[step(&["l"]), step(&["l"]), (None, Ok(()))]);
}

#[test]
fn a_display_that_goes_away_is_absent_and_is_set_up_again_when_it_is_back() {
    let nak = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
    let blank = Some(screen(&[], (0, 0)));
    for failing in 0..woken().len() {
        for (error, fault) in [(nak, Fault::Absent), (ErrorKind::Bus, Fault::Bus)] {
            let mut all = woken()[..failing].to_vec();
            all.push(woken()[failing].clone().with_error(error));
            all.extend(woken());
            // What nobody changes any more does not shine.
            all.push(write(&[0x00, 0xAE]));
            show(
                &all,
                &[(blank.clone(), Err(fault)), (blank.clone(), Ok(()))],
            );
        }
    }
}
