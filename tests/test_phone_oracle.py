"""hashing/phone against python3-phonenumbers: every region's example numbers, and every country code."""
import subprocess
import sys

import phonenumbers


def examples():
    """The example number of every region and type, and of the codes that belong to no region."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in range(11):
            number = phonenumbers.example_number_for_type(region, kind)
            if number:
                yield number
    for code in phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS:
        yield phonenumbers.example_number_for_non_geo_entity(code)


def echo(program, lines):
    result = subprocess.run([program], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def main():
    program = sys.argv[1]
    sent = [phonenumbers.format_number(n, phonenumbers.PhoneNumberFormat.E164) for n in examples()]
    wrong = [(s, g) for s, g in zip(sent, echo(program, sent), strict=True) if s != g]
    assert len(sent) > 1000, len(sent)

    # A number begins with an assigned code exactly when one of the library's codes is its beginning.
    known = {str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    probes = [f"+{lead}1234567" for lead in range(100, 1000)]
    for probe, got in zip(probes, echo(program, probes), strict=True):
        assigned = any(probe[1:1 + n] in known for n in (1, 2, 3))
        if (got == probe) != assigned:
            wrong.append((probe, got))

    for text, got in wrong[:20]:
        print(f"{text}: {got}")
    print(f"{len(sent) + len(probes) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


sys.exit(main())
