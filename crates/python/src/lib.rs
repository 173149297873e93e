//! The native half of the Python package: conversion, call path, asyncio bridge.
