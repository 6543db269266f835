#!/usr/bin/env python3
"""Cycles of the arm64 kernels beside ggml's own loops, by a model of three CPUs: no board has run this.

One product each is run under qemu, which writes down every instruction of the kernel in the order of execution;
llvm-mca says how many cycles a Cortex-A72, a Neoverse N1, which is a Cortex-A76 for servers, or a Neoverse N2, which is
a Cortex-A710 for servers and has products of 8-bit matrices (i8mm), takes for them with everything in the first-level cache and each branch foreseen.

llvm-mca takes a multiplication by element for as cheap as an addition on the N1; here it costs what llvm-mca says of one
by a whole register.

ggml's loops are those inside the pinned sys crate's package, compiled for the CPU: as stored (`vec_dot`, a column at
a time, or two rows and two columns where ggml has that), and where ggml has it repacked (`gemv`, or `gemm` from four columns on). Its sgemm for blocks of 32 is not here.

In: gcc for arm64, qemu-user-static, llvm 17 or later, the Rust target aarch64-unknown-linux-gnu. Out: a table, and a
section of RESULTS.md, in which the lines of types that were not asked for stay.

usage: tests/bench/arm.py [--record] [TYPE...]
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from record import RESULTS, record

REPOSITORY = Path(__file__).parents[2]
TARGET = 'aarch64-unknown-linux-gnu'
# qemu's name, llvm-mca's, gcc's options; which of a type's layouts ggml repacks to, if any; numbers of columns.
CPUS = {
    'Cortex-A72': ('cortex-a72', 'cortex-a72', ['-mcpu=cortex-a72'], None, (1, 2, 4, 8)),
    'Cortex-A76': ('cortex-a76', 'neoverse-n1', ['-mcpu=cortex-a76'], 0, (1, 2, 4, 8)),
    'Neoverse N2': ('max,sve128=on,sve256=off,sve512=off,sve1024=off,sve2048=off', 'neoverse-n2', ['-mcpu=neoverse-n2'], 1, (1, 2, 3, 4, 8, 16)),
}
# Ours, ggml's, what it multiplies with, the layouts that it repacks to with dot products and with products of matrices,
# bytes and length of a block.
TYPES = {
    'Q4K': ('q4_K', 'q8_K', ('8x4', '8x8'), 144, 256),
    'Q5K': ('q5_K', 'q8_K', ('8x4', '8x8'), 176, 256),
    'Q6K': ('q6_K', 'q8_K', ('8x4', '8x8'), 210, 256),
    'Q8_0': ('q8_0', 'q8_0', ('4x4', '4x8'), 34, 32),
    'Q4_0': ('q4_0', 'q8_0', ('4x4', '4x8'), 18, 32),
    'Q4_1': ('q4_1', 'q8_1', None, 20, 32),
    'Q5_0': ('q5_0', 'q8_0', None, 22, 32),
    'Iq4Nl': ('iq4_nl', 'q8_0', ('4x4', '4x4'), 18, 32),
    'Q5_1': ('q5_1', 'q8_1', None, 24, 32),
    'Q2K': ('q2_K', 'q8_K', None, 84, 256),
    'Q3K': ('q3_K', 'q8_K', None, 110, 256),
    'Iq4Xs': ('iq4_xs', 'q8_K', None, 136, 256),
}
# Of which ggml multiplies two rows with two columns, with products of matrices.
IN_PAIRS = ('Q4_0', 'Q4_1', 'Q8_0', 'Q4K', 'Q6K')
ROWS, K = 8, 1024
PROMISED = {'Cortex-A72': 2.0, 'Cortex-A76': 1.3, 'Neoverse N2': 1.3}

GGML = r'''
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
void ggml_vec_dot_WEIGHTS_VALUES(int, float *, size_t, const void *, size_t, const void *, size_t, int);
#ifdef LAYOUT
void GEMV(int, float *, size_t, const void *, const void *, int, int);
void GEMM(int, float *, size_t, const void *, const void *, int, int);
#endif
/* Bytes of a register of SVE, on the CPU that is modelled. */
int ggml_cpu_get_sve_cnt(void) { return 16; }
static char weights[1 << 20], values[1 << 20];
static float products[1 << 12];
int main(int argc, char ** argv) {
    int columns = atoi(argv[1]);
    (void)argc;
#ifdef LAYOUT
    int column = 0;
    for (; column + 4 <= columns; column += 4) GEMM(LENGTH, products, ROWS, weights, values, 4, ROWS);
    for (; column < columns; column++) GEMV(LENGTH, products, ROWS, weights, values, 1, ROWS);
#else
    int at_once = columns % 2 ? 1 : AT_ONCE;
    for (int column = 0; column < columns; column += at_once)
        for (int row = 0; row < ROWS; row += at_once)
            ggml_vec_dot_WEIGHTS_VALUES(LENGTH, products, 16, weights + row * ROW_BYTES, ROW_BYTES, values + column * 8192, 8192, at_once);
#endif
    return 0;
}
'''


def tool(*names):
    """The first of these programs that there is."""
    for name in names:
        if path := shutil.which(name):
            return path
    sys.exit(f'arm.py: {names[0]} is missing')


MCA = tool(*(f'llvm-mca-{n}' for n in range(22, 16, -1)))
OBJDUMP, QEMU, GCC = tool('aarch64-linux-gnu-objdump'), tool('qemu-aarch64-static'), tool('aarch64-linux-gnu-gcc')


def ours():
    """The program that multiplies by the kernels, for all CPUs."""
    flags = ['-C', 'target-cpu=generic', '-C', 'relocation-model=static', '-C', 'target-feature=+crt-static']
    environment = os.environ | {
        'CARGO_ENCODED_RUSTFLAGS': '\x1f'.join(flags),
        'CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER': GCC,
    }
    command = ['cargo', 'build', '--release', '--locked', '--no-default-features', '-p', 'cloister-kernels']
    command += ['--example', 'product', '--target', TARGET, '--message-format=json']
    said = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE).stdout
    built = [json.loads(line) for line in said.splitlines()]
    return next(b['executable'] for b in built if b.get('executable'))


def ggml_sources():
    command = ['cargo', 'metadata', '--format-version=1', '--locked', '--offline']
    said = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout
    packages = json.loads(said)['packages']
    manifest = next(p['manifest_path'] for p in packages if p['name'] == 'llama-cpp-sys-2')
    return Path(manifest).parent / 'llama.cpp/ggml'


def theirs(folder, name, options, layout, at_once):
    """The program that multiplies by ggml's loops, compiled for one CPU."""
    weights, values, _, block, length = TYPES[name]
    ggml = ggml_sources()
    main = folder / 'main.c'
    text = GGML.replace('WEIGHTS', weights).replace('VALUES', values)
    main.write_text(text.replace('GEMV', f'ggml_gemv_{weights}_{layout}_{values}').replace('GEMM', f'ggml_gemm_{weights}_{layout}_{values}'))
    program = folder / f'{name}-{layout}{options[-1]}'
    includes = [f'-I{ggml / part}' for part in ('include', 'src', 'src/ggml-cpu')]
    defines = [f'-DROWS={ROWS}', f'-DLENGTH={K}', f'-DROW_BYTES={K // length * block}', f'-DAT_ONCE={at_once}'] + (['-DLAYOUT'] if layout else [])
    source = ggml / 'src/ggml-cpu/arch/arm' / ('repack.cpp' if layout else 'quants.c')
    # What the loops do not reach is left out.
    link = ['-static', '-Wl,--unresolved-symbols=ignore-all', '-lm']
    subprocess.run([GCC, '-O3', '-w', *options, *includes, *defines, main, source, '-o', program, *link], check=True)
    return program


def listing(program, wanted):
    """The instructions of the functions whose names match, by address."""
    said = subprocess.run([OBJDUMP, '-d', '--no-show-raw-insn', program], check=True, stdout=subprocess.PIPE, text=True).stdout
    instructions, inside = {}, False
    for line in said.splitlines():
        if head := re.match(r'[0-9a-f]+ <(.*)>:$', line):
            inside = re.search(wanted, head[1])
        elif inside and (found := re.match(r' +([0-9a-f]+):\t(.*)', line)):
            text = re.sub(r'\s*(//|<).*', '', found[2]).strip()
            # Where a branch leads does not matter to the model.
            if re.match(r'(b|bl|b\.\w+|cbn?z|tbn?z|adrp?)\s', text):
                text = re.sub(r'\b[0-9a-f]+$', '.', text)
            # llvm-mca takes a multiplication by element for an addition: it costs what one of two registers does.
            text = re.sub(r'^((?:mla|mls|mul)\s.*\.4s, v\d+)\.s\[\d\]$', r'\1.4s', text)
            instructions[int(found[1], 16)] = text
    return instructions


def trace(cpu, program, arguments, wanted, folder):
    """The instructions in the order in which they were run."""
    instructions = listing(program, wanted)
    assert instructions, f'{program}: no function {wanted}'
    log = folder / 'log'
    command = [QEMU, '-cpu', cpu, '-d', 'in_asm,exec,nochain', '-dfilter', f'{min(instructions):#x}..{max(instructions) + 3:#x}']
    code = subprocess.run([*command, '-D', log, program, *map(str, arguments)], stdout=subprocess.DEVNULL).returncode
    # What died midway has run too few instructions.
    if code:
        sys.exit(f'arm.py: {Path(program).name} {" ".join(map(str, arguments))} ended with {code} on {cpu}')
    blocks, block, run = {}, None, []
    for line in open(log):
        if line.startswith('IN:'):
            block = []
        elif block is not None and (found := re.match(r'0x([0-9a-f]+):', line)):
            block.append(int(found[1], 16))
            blocks[block[0]] = block
        elif found := re.match(r'Trace \d+: \S+ \[\w+/0*([0-9a-f]+)/', line):
            run += [instructions[at] for at in blocks[int(found[1], 16)] if at in instructions]
    assert run, f'{program}: none of {wanted} was run'
    return run


def cycles(model, run):
    """Cycles that a CPU of this model takes for these instructions."""
    command = [MCA, f'-mtriple={TARGET}', f'-mcpu={model}', '-iterations=1', '-instruction-info=0', '-resource-pressure=0']
    said = subprocess.run(command, input='\n'.join(run), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return int(re.search(r'Total Cycles: +(\d+)', said)[1])


def merged(lines):
    """These lines of the table, and those recorded before of other CPUs and types, CPU by CPU and type by type."""
    def subject(line):
        return tuple(line.split(' | ')[:2])

    table = [line for line in Path(RESULTS).read_text().splitlines() if line.startswith(tuple(f'| {cpu} | ' for cpu in CPUS))]
    # Other tables name these CPUs, too; only this one has a type beside.
    old = [line for line in table if line.split(' | ')[1] in TYPES]
    fresh = {subject(line) for line in lines}
    order = [(f'| {cpu}', name) for cpu in CPUS for name in TYPES]
    return sorted([line for line in old if subject(line) not in fresh] + lines, key=lambda line: order.index(subject(line)))


def main():
    arguments = [a for a in sys.argv[1:] if a != '--record']
    types = arguments or list(TYPES)
    program = ours()
    lines = ['| CPU, modelled | type | columns | ggml, as stored | repacked | cloister | ratio | promised |', '| --- | --- | --- | --- | --- | --- | --- | --- |']
    print(*lines, sep='\n')
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for cpu, (emulated, model, options, which, numbers) in CPUS.items():
            for name in types:
                weights, values, layouts = TYPES[name][:3]
                at_once = 2 if which == 1 and name in IN_PAIRS else 1
                others = {'stored': (theirs(folder, name, options, None, at_once), f'^ggml_vec_dot_{weights}_{values}$')}
                # Without dot products ggml repacks nothing.
                if layouts and which is not None:
                    layout = layouts[which]
                    others['repacked'] = (theirs(folder, name, options, layout, at_once), f'ggml_gem[vm]_{weights}_{layout}_{values}')
                for n in numbers:
                    per = ROWS * K * n / 256

                    def cost(path, wanted, arguments):
                        return cycles(model, trace(emulated, path, arguments, wanted, folder)) / per

                    own = cost(program, r'cloister_kernels.*4neon', [name, ROWS, K, n])
                    them = {way: cost(path, wanted, [n]) for way, (path, wanted) in others.items()}
                    ratio = min(them.values()) / own
                    shown = [f'{them[way]:.1f}' if way in them else '-' for way in ('stored', 'repacked')]
                    met = '' if ratio >= PROMISED[cpu] else ', missed'
                    lines.append(f'| {cpu} | {name} | {n} | {" | ".join(shown)} | {own:.1f} | {ratio:.2f} | {PROMISED[cpu]}{met} |')
                    print(lines[-1], flush=True)
    if '--record' in sys.argv:
        record(RESULTS, 'The arm64 kernels, by a model of the CPUs', [
            f'Cycles for 256 weights and a column, of {ROWS} rows of {K} weights; {Path(MCA).name}, everything in the first-level cache.',
            'No board has run this. The ratio is against the better of ggml\'s two ways.', '', *lines[:2], *merged(lines[2:])])


if __name__ == '__main__':
    main()
