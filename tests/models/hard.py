"""Models that no solver finishes soon."""

import random


def market_split(rows: int = 5, columns: int = 45, seed: int = 1) -> str:
    """A market-split problem in MPS: easy to find poor solutions of, very hard to solve.

    G. Cornuéjols and M. Dawande, "A class of hard small 0-1 programs", IPCO 1998.
    """
    draw = random.Random(seed)
    weights = [[draw.randrange(1, 100) for _ in range(columns)] for _ in range(rows)]
    lines = ["NAME MARKETSPLIT", "ROWS", " N COST", *(f" E R{i}" for i in range(rows))]
    lines += ["COLUMNS", " M1 'MARKER' 'INTORG'"]
    for j in range(columns):
        lines += [f" X{j} R{i} {weights[i][j]}" for i in range(rows)]
    lines.append(" M2 'MARKER' 'INTEND'")
    for i in range(rows):
        lines += [f" S{i} R{i} 1 COST 1", f" T{i} R{i} -1 COST 1"]
    lines += ["RHS", *(f" RHS R{i} {sum(weights[i]) // 2}" for i in range(rows))]
    lines += ["BOUNDS", *(f" UP BND X{j} 1" for j in range(columns)), "ENDATA"]
    return "\n".join(lines) + "\n"


def wide_knapsacks(rows: int = 100, columns: int = 3_000, seed: int = 1) -> str:
    """A dense multi-dimensional knapsack in MPS, whose root node alone keeps a solver busy."""
    draw = random.Random(seed)
    lines = ["NAME KNAPSACKS", "OBJSENSE MAX", "ROWS", " N GAIN"]
    lines += [f" L R{i}" for i in range(rows)]
    lines += ["COLUMNS", " M1 'MARKER' 'INTORG'"]
    for j in range(columns):
        lines.append(f" X{j} GAIN {draw.randrange(500, 1000)}")
        lines += [f" X{j} R{i} {draw.randrange(1, 1000)}" for i in range(rows)]
    lines += [" M2 'MARKER' 'INTEND'", "RHS"]
    lines += [f" RHS R{i} {columns * 125}" for i in range(rows)]
    lines += ["BOUNDS", *(f" UP BND X{j} 1" for j in range(columns)), "ENDATA"]
    return "\n".join(lines) + "\n"
