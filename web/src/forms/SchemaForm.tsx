/** The inputs of a form that a schema describes. */
import { PasswordInput, Select, Switch, Textarea, TextInput } from '@mantine/core'
import { words } from '../words'
import { type Field, type Texts, textOf } from './schema'

type Props = {
  fields: Field[]
  texts: Texts
  set: (texts: Texts) => void
  secretAbout?: string
  examples?: Record<string, unknown>
}

export function SchemaForm({ fields, texts, set, secretAbout, examples }: Props) {
  return fields.map((field) => (
    <Input
      key={field.name}
      field={field}
      text={texts[field.name] ?? ''}
      secretAbout={secretAbout}
      example={textOf(examples?.[field.name])}
      change={(text) => set({ ...texts, [field.name]: text })}
    />
  ))
}

type InputProps = { field: Field; text: string; secretAbout?: string; example: string; change: (text: string) => void }

function Input({ field, text, secretAbout, example, change }: InputProps) {
  const placeholder = example && words.inspector.forExample(example)
  const { label, about: description, isRequired: required } = field
  if (field.kind === 'switch')
    return (
      <Switch
        label={label}
        description={description}
        checked={text === 'true'}
        onChange={(event) => change(String(event.currentTarget.checked))}
      />
    )
  if (field.kind === 'choice')
    return (
      <Select
        label={label}
        description={description}
        data={field.choices}
        value={text || null}
        onChange={(value) => change(value ?? '')}
      />
    )
  if (field.kind === 'secret')
    return (
      <PasswordInput
        label={label}
        description={secretAbout ?? description}
        placeholder={placeholder}
        required={required && !secretAbout}
        autoComplete="new-password"
        value={text}
        onChange={(event) => change(event.currentTarget.value)}
      />
    )
  if (field.kind === 'json')
    return (
      <Textarea
        label={label}
        description={description}
        placeholder={placeholder}
        required={required}
        classNames={{ input: 'mono' }}
        autosize
        value={text}
        onChange={(event) => change(event.currentTarget.value)}
      />
    )
  return (
    <TextInput
      label={label}
      description={description}
      placeholder={placeholder}
      required={required}
      inputMode={field.kind === 'number' ? 'decimal' : undefined}
      value={text}
      onChange={(event) => change(event.currentTarget.value)}
    />
  )
}
