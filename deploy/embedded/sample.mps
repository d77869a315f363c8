* When to raise the bridge: eight half-hours of one morning.
*
* Ships arrive (right-hand sides of SHIPSn). In a half-hour n the bridge is raised (OPENn = 1)
* or not; raised, it lets up to 7 ships pass (PASSn); the others wait (WAITn). The road's
* queue must clear, so the bridge is never raised in two half-hours running (CLEARn).
* Cost: the road users' delay of each opening, dearest in the rush hour, and 4 for each ship
* and half-hour of waiting. Nobody waits when the morning ends.
NAME          DRAWBRIDGE
ROWS
 N  COST
 E  SHIPS1
 E  SHIPS2
 E  SHIPS3
 E  SHIPS4
 E  SHIPS5
 E  SHIPS6
 E  SHIPS7
 E  SHIPS8
 L  ROOM1
 L  ROOM2
 L  ROOM3
 L  ROOM4
 L  ROOM5
 L  ROOM6
 L  ROOM7
 L  ROOM8
 L  CLEAR1
 L  CLEAR2
 L  CLEAR3
 L  CLEAR4
 L  CLEAR5
 L  CLEAR6
 L  CLEAR7
COLUMNS
    MARKER                 'MARKER'                 'INTORG'
    OPEN1     COST                20
    OPEN1     ROOM1               -7
    OPEN1     CLEAR1               1
    OPEN2     COST                45
    OPEN2     ROOM2               -7
    OPEN2     CLEAR1               1
    OPEN2     CLEAR2               1
    OPEN3     COST                60
    OPEN3     ROOM3               -7
    OPEN3     CLEAR2               1
    OPEN3     CLEAR3               1
    OPEN4     COST                50
    OPEN4     ROOM4               -7
    OPEN4     CLEAR3               1
    OPEN4     CLEAR4               1
    OPEN5     COST                30
    OPEN5     ROOM5               -7
    OPEN5     CLEAR4               1
    OPEN5     CLEAR5               1
    OPEN6     COST                25
    OPEN6     ROOM6               -7
    OPEN6     CLEAR5               1
    OPEN6     CLEAR6               1
    OPEN7     COST                35
    OPEN7     ROOM7               -7
    OPEN7     CLEAR6               1
    OPEN7     CLEAR7               1
    OPEN8     COST                20
    OPEN8     ROOM8               -7
    OPEN8     CLEAR7               1
    PASS1     SHIPS1               1
    PASS1     ROOM1                1
    PASS2     SHIPS2               1
    PASS2     ROOM2                1
    PASS3     SHIPS3               1
    PASS3     ROOM3                1
    PASS4     SHIPS4               1
    PASS4     ROOM4                1
    PASS5     SHIPS5               1
    PASS5     ROOM5                1
    PASS6     SHIPS6               1
    PASS6     ROOM6                1
    PASS7     SHIPS7               1
    PASS7     ROOM7                1
    PASS8     SHIPS8               1
    PASS8     ROOM8                1
    WAIT1     COST                 4
    WAIT1     SHIPS1               1
    WAIT1     SHIPS2              -1
    WAIT2     COST                 4
    WAIT2     SHIPS2               1
    WAIT2     SHIPS3              -1
    WAIT3     COST                 4
    WAIT3     SHIPS3               1
    WAIT3     SHIPS4              -1
    WAIT4     COST                 4
    WAIT4     SHIPS4               1
    WAIT4     SHIPS5              -1
    WAIT5     COST                 4
    WAIT5     SHIPS5               1
    WAIT5     SHIPS6              -1
    WAIT6     COST                 4
    WAIT6     SHIPS6               1
    WAIT6     SHIPS7              -1
    WAIT7     COST                 4
    WAIT7     SHIPS7               1
    WAIT7     SHIPS8              -1
    MARKER                 'MARKER'                 'INTEND'
RHS
    ARRIVALS  SHIPS1               3
    ARRIVALS  SHIPS2               1
    ARRIVALS  SHIPS3               4
    ARRIVALS  SHIPS4               2
    ARRIVALS  SHIPS5               5
    ARRIVALS  SHIPS6               1
    ARRIVALS  SHIPS7               2
    ARRIVALS  SHIPS8               3
    ARRIVALS  CLEAR1               1
    ARRIVALS  CLEAR2               1
    ARRIVALS  CLEAR3               1
    ARRIVALS  CLEAR4               1
    ARRIVALS  CLEAR5               1
    ARRIVALS  CLEAR6               1
    ARRIVALS  CLEAR7               1
BOUNDS
 BV LIMIT     OPEN1
 BV LIMIT     OPEN2
 BV LIMIT     OPEN3
 BV LIMIT     OPEN4
 BV LIMIT     OPEN5
 BV LIMIT     OPEN6
 BV LIMIT     OPEN7
 BV LIMIT     OPEN8
 PL LIMIT     PASS1
 PL LIMIT     PASS2
 PL LIMIT     PASS3
 PL LIMIT     PASS4
 PL LIMIT     PASS5
 PL LIMIT     PASS6
 PL LIMIT     PASS7
 PL LIMIT     PASS8
 PL LIMIT     WAIT1
 PL LIMIT     WAIT2
 PL LIMIT     WAIT3
 PL LIMIT     WAIT4
 PL LIMIT     WAIT5
 PL LIMIT     WAIT6
 PL LIMIT     WAIT7
ENDATA
