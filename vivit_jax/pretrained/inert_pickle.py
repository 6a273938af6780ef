"""Reading pickles without running them.

A pickle is a program for a small stack machine, and Python's own reader lets it import and call
whatever it names. This one is another machine: it knows the instructions that build plain values,
imports nothing, and asks a table for each class or function that a pickle names. What the table
lacks is refused where it is named, before anything of it could be made or called. Nothing here
recurses, so that no depth of nesting can break it.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from vivit_jax.errors import InputError

PLAIN = (str, bytes, int, float, bool, type(None))  # what may be hashed
MARK = object()
WHY = (
    "only tensors and plain containers are read, and nothing that a file names is ever run. "
    "Save the weights alone, as a state_dict."
)


class Named(NamedTuple):
    """A class or function that a pickle asks for, by its name; never the thing itself."""

    name: str


class Built:
    """What a pickle gives a state after it is made."""

    def take_state(self, state: Any) -> None:
        """Takes what would be the object's attributes."""
        raise NotImplementedError


class Fresh(dict, Built):
    """An object without a class: its attributes by name."""

    def take_state(self, state: Any) -> None:
        """Takes attributes, which are not those of this object."""
        if type(state) is not dict:
            raise ValueError(f"attributes in {type(state).__name__}")
        self.update(state)


class Given(NamedTuple):
    """What a pickle may ask for.

    Attributes:
      functions: what stands for each function or class that may be called, by its name.
      names: that may be asked for beside, and not be called.
      persistent: what stands for something that lies outside of the pickle, by its account.
    """

    functions: Mapping[str, Callable[..., Any]]
    names: frozenset[str] = frozenset()
    persistent: Callable[[Any], Any] | None = None


def read(file: BinaryIO, given: Given, where: str) -> Any:
    """Returns the value of the pickle at a file's position, which is left behind it.

    Args:
      file: is read from.
      given: what it may ask for.
      where: it is, for messages.

    Raises:
      InputError: the pickle is damaged, or asks for what is not given; names that.
    """
    machine = Machine(given, where)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except InputError:
        raise
    except Exception as error:  # whatever is wrong with bytes that may be anything
        what = type(error).__name__
        raise InputError(
            f"{where} is damaged, or no file of PyTorch's ({what}: {error})."
        ) from error
    raise InputError(f"{where} ends before its pickle does.")


class Machine:
    """The stack and the memory of a pickle that is being read."""

    def __init__(self, given: Given, where: str) -> None:
        self.given = given
        self.where = where
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Does one instruction.

        Raises:
          InputError: it is none of those that build plain values.
        """
        if name in PUSHES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in STEPS:
            STEPS[name](self, argument)
        elif name not in IGNORED:
            asks = argument.replace(" ", ".") if name == "INST" else "something"
            raise InputError(
                f"{self.where} asks for {asks} by the instruction {name}, which is refused: {WHY}"
            )

    def pop(self) -> Any:
        """Takes the topmost value."""
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark where a value was expected")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Takes the values down to the last mark, and the mark."""
        start = len(self.stack) - 1
        while self.stack[start] is not MARK:
            start -= 1
            if start < 0:
                raise ValueError("no mark")
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def ask(self, module: Any, name: Any) -> None:
        """Puts the name of a class or function on the stack.

        Raises:
          InputError: it is not given.
        """
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        full = f"{module}.{name}"
        if full not in self.given.functions and full not in self.given.names:
            raise InputError(f"{self.where} asks for {full}, which is refused: {WHY}")
        self.stack.append(Named(full))

    def call(self) -> None:
        """Calls what stands for a name."""
        arguments, asked = self.pop(), self.pop()
        if type(asked) is not Named or type(arguments) is not tuple:
            raise ValueError(f"a call of {type(asked).__name__}")
        if asked.name not in self.given.functions:
            raise InputError(f"{self.where} calls {asked.name}, which is refused.")
        self.stack.append(self.given.functions[asked.name](*arguments))

    def build(self) -> None:
        """Gives an object its attributes; those of a dictionary are dropped."""
        state, value = self.pop(), self.stack[-1]
        if isinstance(value, Built):
            value.take_state(state)
        elif type(value) is not dict:
            raise ValueError(f"attributes of {type(value).__name__}")

    def append(self, values: list[Any]) -> None:
        """Adds to the list on the stack."""
        self.top(list).extend(values)

    def add(self, values: list[Any]) -> None:
        """Adds to the set on the stack."""
        self.top(set).update(values)

    def set_items(self, values: list[Any]) -> None:
        """Adds to the dictionary on the stack."""
        if len(values) % 2:
            raise ValueError("a key without a value")
        self.top(dict).update(zip(hashable(values[::2]), values[1::2], strict=True))

    def top(self, kind: type) -> Any:
        """Returns the topmost value, which stays."""
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"{type(self.stack[-1]).__name__} where {kind.__name__} was expected")
        return self.stack[-1]

    def fetch(self, argument: Any) -> None:
        """Puts what lies outside on the stack."""
        if self.given.persistent is None:
            raise ValueError("something outside of the pickle")
        self.stack.append(self.given.persistent(self.pop()))

    def remember(self, number: int | None) -> None:
        """Keeps the topmost value."""
        self.memory[len(self.memory) if number is None else number] = self.stack[-1]


def hashable(values: list[Any]) -> list[Any]:
    """Returns keys as they are.

    Raises:
      ValueError: one is more than a plain value or a tuple of such: hashing recurses.
    """
    for value in values:
        parts = value if type(value) is tuple else (value,)
        if not all(type(part) in PLAIN for part in parts):
            raise ValueError(f"{type(value).__name__} as a key")
    return values


def tuple_of(count: int) -> Callable[[Machine, Any], None]:
    """Returns the step that makes a tuple of the topmost values."""

    def step(machine: Machine, argument: Any) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


IGNORED = {"PROTO", "FRAME"}
PUSHES = {  # their argument
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "MARK": lambda: MARK,
}
STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "TUPLE1": tuple_of(1),
    "TUPLE2": tuple_of(2),
    "TUPLE3": tuple_of(3),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(hashable(m.pop_to_mark()))),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.add(hashable(m.pop_to_mark())),
    "PUT": Machine.remember,
    "BINPUT": Machine.remember,
    "LONG_BINPUT": Machine.remember,
    "MEMOIZE": Machine.remember,
    "GET": lambda m, number: m.stack.append(m.memory[number]),
    "BINGET": lambda m, number: m.stack.append(m.memory[number]),
    "LONG_BINGET": lambda m, number: m.stack.append(m.memory[number]),
    "GLOBAL": lambda m, names: m.ask(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.ask(*[m.pop(), m.pop()][::-1]),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": Machine.fetch,
}
