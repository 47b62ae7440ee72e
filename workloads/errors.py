"""The root of the error tree.

KisError
├── CatalogError          workloads.catalog      an unknown model, a setting the model cannot have
├── PayloadError          workloads.payloads     a tensor that no request input can be made for
├── ArtifactError         loadgen.artifact       a file that cannot be read, or has another schema version
├── TraceError            loadgen.schedule       a trace that is not one
├── PatternError          loadgen.patterns       an unknown pattern, a parameter that makes no sense
├── LengthsError         loadgen.lengths        a distribution of lengths that is none
├── AccessError           loadgen.access         a certificate or a header that cannot be had
├── EndpointError         loadgen.endpoints      an address, or a file of addresses, that is not one
├── DiscoveryError        loadgen.discovery      a server that does not answer, a model that it does not describe
├── ReplayError           loadgen.job            a replay that cannot start
├── ConfigError           testbed.config         a configuration file with a wrong key or value
├── ServingError          testbed.serving        a server that cannot be started or does not answer
├── ClusterError          testbed.localcluster   a Kubernetes cluster that cannot be had, or does not answer
├── CalibrationError      testbed.calibration    too little data to fit
└── ReportError           testbed.reporting      runs that cannot be compared
"""

_LONGEST, _END = 1000, 300  # letters of a text, and of its end where its middle is left out


class KisError(Exception):
    """An error that the user can mend. Its text is one line: what is wrong, where, and what to do.

    What a foreign file has put into it stays harmless: no other lines, nothing that a terminal obeys, no megabytes.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Spaces for what separates lines, escapes for what cannot be printed, and the beginning and end of a long text."""
    if not text.isprintable():
        text = "".join(map(_printable, text))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _END]} ... {text[-_END:]}"


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()
