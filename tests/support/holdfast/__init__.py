"""Support for Holdfast's system and conformance tests: Python 3.11 and its standard library only.

    case     TestCase: a scratch directory, deadlines, clean-up of everything that was started
    paths    where the programs under test and the test helpers are
    process  run a client program with a deadline
    target   configure, start, kill and stop holdfast-targetd
    cli      run `holdfast target ...`
    pdu      iSCSI PDUs as bytes; digests
    iscsi    a raw initiator: anything can be sent, anything can be held back
    chap     the initiator's side of CHAP
    scsi     CDBs, sense data, persistent reservation parameter lists
    slowfs   a file system whose delays and errors are set at run time

Every wait has a deadline; a tool that is missing is an error, never a skip.
"""
