"""The job of `jaxmicro plan`: the lowest dose that reaches a standard error."""
