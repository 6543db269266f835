"""Keeps RESULTS.md, which has a section for each bench: a run replaces its own and leaves the others."""
import os
import re

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'RESULTS.md')


def record(path, heading, lines):
    """Replaces the section `# heading` of the file by `lines`, or adds it at the end."""
    text = open(path).read() if os.path.exists(path) else ''
    sections = re.split(r'^(?=# )', text, flags=re.M)
    section = '\n'.join([f'# {heading}', '', *lines]) + '\n'
    if not any(s.startswith(f'# {heading}\n') for s in sections):
        sections.append('')
        place = len(sections) - 1
    else:
        place = next(i for i, s in enumerate(sections) if s.startswith(f'# {heading}\n'))
    sections[place] = section
    with open(path, 'w') as f:
        f.write('\n'.join(s.rstrip('\n') + '\n' for s in sections if s.strip()))
